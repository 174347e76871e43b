"""Weights and their cards: read, check, rebuild, write."""
