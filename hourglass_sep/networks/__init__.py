"""Mask networks: magnitudes (B, C, F, T) to masks (K, B, S, C, F, T)."""
