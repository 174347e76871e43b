"""Choices of the ``separate`` command, importable without torch: its help text answers at once."""

FORMAT_NAMES = ("wav", "flac", "mp3", "ogg")
"""Formats that stems are written in, by suffix: the keys of `hourglass_sep.audio.FORMATS`."""

BIT_DEPTHS = ("16", "24", "float32")
"""Of the formats above that have several: see `hourglass_sep.audio.FORMATS`."""

CLIP_MODES = ("none", "rescale", "clamp")
OTHER_METHODS = ("none", "add", "minus")

OUT = "separated"
"""Default folder for stems."""

FILENAME = "{track}/{stem}.{ext}"
"""Default pattern of a stem's file below it."""
