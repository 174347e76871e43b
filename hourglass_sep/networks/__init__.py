"""Mask networks: magnitudes (B, 1, F, T) to masks (K, B, S, F, T)."""
