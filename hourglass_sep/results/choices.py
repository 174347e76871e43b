"""Choices of command-line options, importable without torch."""

RESAMPLED = ("clip", "singer")
"""Units that the bootstrap draws: single clips, or all clips of a singer together."""
