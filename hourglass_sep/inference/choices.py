"""Choices of settings that the command line offers, importable without torch."""

HIGH_BANDS = ("average", "hold", "zero")
"""What shares out the frequencies above the network's, see `hourglass_sep.inference.separator.Separator`."""
