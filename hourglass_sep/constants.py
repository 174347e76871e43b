"""Names that every other module shares."""

SOURCES = ("accompaniment", "vocals")
"""The sources, in the order of every S axis; MIR-1K's left and right channel."""

MIXTURE = "mixture"
"""The name under which the unprocessed mixture is scored."""
