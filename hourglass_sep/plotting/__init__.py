"""Figures of spectrograms and masks: plain matplotlib, no global state."""
