"""The one exception that users are meant to see."""


class UserError(Exception):
    """Something that the user can mend: one line that names the thing and the remedy.

    The commands print the message without a traceback and end with the exit code.
    """

    exit_code = 2


class Interrupted(UserError):  # noqa: N818 - nothing went wrong
    """Ctrl-C, where something is to be said about what was kept."""

    exit_code = 130


class FileError(UserError):
    """A file that cannot be written."""


class AudioError(UserError):
    """A sound file that cannot be read, or holds no usable audio."""


class DataError(UserError):
    """A data set that is missing or not laid out as it should be."""


class CheckpointError(UserError):
    """Weights that are missing, damaged or of another program."""


class SettingError(UserError, ValueError):
    """A constructor's argument, or the config key behind it, that is out of range."""


class NotFiniteError(UserError, ValueError):
    """Weights that give NaN or infinite samples."""
