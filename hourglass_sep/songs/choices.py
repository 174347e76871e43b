"""Choices of the ``separate`` command, importable without torch, so that ``--help`` is fast."""

FORMAT_NAMES = ("wav", "flac", "mp3", "ogg")
"""Formats of stems, by suffix: the keys of `hourglass_sep.audio.FORMATS`."""

BIT_DEPTHS = ("16", "24", "float32")
"""Bit depths of the formats that have several, see `hourglass_sep.audio.FORMATS`."""

CLIP_MODES = ("none", "rescale", "clamp")
OTHER_METHODS = ("none", "add", "minus")

OUT = "separated"
"""Default folder of the stems."""

FILENAME = "{track}/{stem}.{ext}"
"""Default pattern of a stem's path below that folder."""
