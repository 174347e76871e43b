"""Names that every other module shares."""

SOURCES = ("accompaniment", "vocals")
"""The sources, in the order of every S axis; MIR-1K's left and right channel."""

MIXTURE = "mixture"
"""The name under which the unprocessed mixture is scored."""

FORMATS = ("wav", "flac", "mp3", "ogg")
"""Formats that stems are written in, by suffix."""

BIT_DEPTHS = ("16", "24", "float32")
HIGH_BANDS = ("average", "hold", "zero")
CLIP_MODES = ("none", "rescale", "clamp")
OTHER_METHODS = ("none", "add", "minus")
DEVICES = ("auto", "cpu", "cuda", "mps")

OUT = "separated"
FILENAME = "{track}/{stem}.{ext}"
"""Where stems go if nobody says."""
