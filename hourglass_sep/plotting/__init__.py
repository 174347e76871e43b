"""Figures of spectrograms and masks: plain matplotlib figures, no global state."""
