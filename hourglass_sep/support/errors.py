"""Exceptions whose messages are shown to users."""


class UserError(Exception):
    """An error that the user can fix; the message is one line that names the cause and the remedy.

    Commands print the message without a traceback and exit with ``exit_code``.
    """

    exit_code = 2


class Interrupted(UserError):  # noqa: N818 - an interruption is not an error
    """Ctrl-C during work; the message states which results were kept."""

    exit_code = 130


class FileError(UserError):
    """A file that cannot be written."""


class AudioError(UserError):
    """A sound file that cannot be read or holds no usable audio."""


class DataError(UserError):
    """A data set that is missing or does not have the expected folder layout."""


class CheckpointError(UserError):
    """Weights that are missing, damaged or written by another program."""


class SettingError(UserError, ValueError):
    """An invalid constructor argument, or the config key that sets it."""


class NotFiniteError(UserError, ValueError):
    """Weights that produce NaN or infinite samples."""
