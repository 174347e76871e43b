"""Choices of command-line options, importable without torch."""

RESAMPLED = ("clip", "group")
"""Units that the bootstrap draws: single clips, or all clips of a group (singer or artist) together."""


def resampled(text: str) -> str:
    """A name from `RESAMPLED`; ``singer`` is the earlier word for ``group``."""
    return "group" if text == "singer" else text
