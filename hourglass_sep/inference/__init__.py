"""From a mixture's waveform to one waveform for each source."""
