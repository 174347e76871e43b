"""Choices that the command line offers, importable without torch."""

RESAMPLED = ("clip", "singer")
"""What the bootstrap draws: single clips, or all clips of a singer together."""
