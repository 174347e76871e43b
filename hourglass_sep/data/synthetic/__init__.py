"""Synthetic songs generated from a seed: a singing voice, a band, and clips in MIR-1K's layout."""
