"""Spectrograms of the worst clips from ``worst.npz``, which an evaluation wrote beside its ``scores.json``."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.results.scores_file import WORST, ScoresFile
from hourglass_sep.scoring.averages import Array
from hourglass_sep.scoring.worst import KINDS, STEPS_PER_DB
from hourglass_sep.support.errors import UserError

_MOST_BYTES = 1 << 28
_MOST_ENTRY_BYTES = 1 << 22
_AGAIN = "evaluate again for pictures of its worst clips"


def stored_levels(file: ScoresFile, metric: str) -> Callable[[str, str], dict[str, Array]]:
    """Open the spectrograms of a score file.

    Args:
        file: the score file.
        metric: the metric by which clips are ranked, for messages.

    Returns:
        A function from (clip, source) to levels (F, T) in dB by name, see `hourglass_sep.scoring.worst.KINDS`. It
        raises UserError for clips whose spectrograms are not stored.

    Raises:
        UserError: there is no such file, or it is damaged or belongs to other scores.
    """
    path = file.path.parent / WORST
    if not file.worst:
        raise UserError(f"{file.path} has no spectrograms, as scores of earlier versions: {_AGAIN}")
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {_AGAIN}") from error
    if hashlib.sha256(content).hexdigest() != file.worst:
        raise UserError(f"{path} is not the one of {file.path}: {_AGAIN}")
    damaged = UserError(f"{path} is damaged: {_AGAIN}")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        names = [tuple(pair) for pair in json.loads(_entry(archive, "index").tobytes())]
    except (ValueError, TypeError, KeyError, RecursionError, zipfile.BadZipFile, NotImplementedError) as error:
        raise damaged from error

    def load(clip: str, source: str) -> dict[str, Array]:
        if (clip, source) not in names:
            first = next(iter(file.protocol["headline"]))
            reason = f"those of the worst by {first} are stored" if metric != first else "it is beyond those stored"
            raise UserError(f"{path} has no spectrogram of {clip}, {source}: {reason}")
        number = names.index((clip, source))
        try:
            levels = {kind: _entry(archive, f"{number}/{kind}") for kind in KINDS}
        except (ValueError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
            raise damaged from error
        if len({image.shape for image in levels.values()}) > 1 or levels[MIXTURE].ndim != 2 or not levels[MIXTURE].size:
            raise damaged
        return {kind: -image.astype(np.float64) / STEPS_PER_DB for kind, image in levels.items()}

    return load


def _entry(archive: zipfile.ZipFile, name: str) -> NDArray[np.uint8]:
    """An array of bytes from the archive, of limited size.

    Raises:
        ValueError: an array of another kind or another size than its header says.
    """
    with archive.open(f"{name}.npy") as stream:
        content = io.BytesIO(stream.read(_MOST_ENTRY_BYTES))
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError("another version of the format")
    shape, transposed, dtype = np.lib.format.read_array_header_1_0(content)
    if dtype != np.uint8 or transposed:
        raise ValueError("an array of another type")
    return np.frombuffer(content.read(), np.uint8).reshape(shape)
