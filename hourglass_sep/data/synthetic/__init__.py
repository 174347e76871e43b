"""Synthetic songs, made from a seed: a voice, a band, and clips in MIR-1K's layout."""
