"""Sets of synthetic clips on disk: a manifest of the arguments they were made with, and locks between processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hourglass_sep import audio
from hourglass_sep.support.errors import DataError
from hourglass_sep.support.files import write_all, writing
from hourglass_sep.support.locks import lock, unlock
from hourglass_sep.support.terminal import complain

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 2.0

Maker = Callable[[], Sequence[Tensor]]
"""Synthesises one clip: waveforms (C, N) of one shape, one per file."""


@dataclass(frozen=True)
class SyntheticSet:
    """A set of synthetic clips in a folder of its own.

    Attributes:
        root: the folder.
        kind: name of the config that makes such sets (``data=KIND``), of the manifest (``KIND.json``) and of the lock
            (``KIND.lock``).
        made_from: content of the manifest: the arguments that the clips depend on.
        patterns: where a set of this kind has files, as glob patterns relative to ``root``.
        plan: the files of each clip, and the function that synthesises it.
        sample_rate_hz: sample rate of the files in Hz.
    """

    root: Path
    kind: str
    made_from: str
    patterns: tuple[str, ...]
    plan: Mapping[tuple[Path, ...], Maker]
    sample_rate_hz: int

    def write(self) -> None:
        """Write the set, unless it exists.

        An existing set made with equal arguments is kept, and completed if clips are missing. A set made with other
        arguments is replaced, unless another process uses it. Of several processes one writes the set while the others
        wait. This process counts as a user of the set until it calls `release` or ends.

        Raises:
            DataError: the folder holds clips that are not synthetic, or another process uses a set made with other
                arguments.
            FileError: the folder cannot be written.
        """
        if self._files() and self._manifest() is None:  # in this order: another process writes the manifest first
            raise DataError(f"{self.root} holds other clips: give data={self.kind} a folder of its own with data.root")
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        if self._may_make():
            self._make()
            lock(self._lock, shared=True)

    @property
    def _lock(self) -> Path:
        return self.root / f"{self.kind}.lock"

    def _manifest(self) -> str | None:
        """Content of the manifest in the folder; None if there is no manifest."""
        path = self.root / f"{self.kind}.json"
        return path.read_text(errors="replace") if path.exists() else None

    def _files(self, ending: str = "") -> list[Path]:
        """The files where a set of this kind has files; with ``ending``, those with that appended to their names."""
        return [path for pattern in self.patterns for path in self.root.glob(pattern + ending)]

    def _is_whole(self) -> bool:
        """Whether the folder holds the complete set."""
        return self._manifest() == self.made_from and all(path.exists() for paths in self.plan for path in paths)

    def _may_make(self) -> bool:
        """Wait until this process holds a shared lock on a complete set or an exclusive lock on the folder.

        Returns:
            True if the lock is exclusive and the set has to be written; False if the set is complete.

        Raises:
            DataError: another process uses a set made with other arguments in this folder.
        """
        told, patience = False, _PATIENCE_SECONDS
        while True:
            shared = lock(self._lock, shared=True)
            if shared and self._is_whole():
                return False
            unlock(self._lock)  # avoids a deadlock: two sharing processes would each wait for the other
            if lock(self._lock):
                return not (self._is_whole() and lock(self._lock, shared=True))
            unlock(self._lock)
            if shared:  # no process writes a set, but one uses a set made with other arguments
                patience -= _POLL_SECONDS
            else:
                patience = _PATIENCE_SECONDS
                if not told:
                    complain(f"{self.root}: waiting for another process that makes synthetic songs there")
                told = True
            if patience <= 0:
                raise DataError(
                    f"{self.root} is in use by another process, with other settings of data={self.kind}: "
                    "choose another data.root"
                )
            time.sleep(_POLL_SECONDS)

    def _make(self) -> None:
        """Write the missing clips.

        Clips of another manifest are deleted before the new manifest is written, so clips always match the manifest.
        """
        if self._manifest() != self.made_from:
            for path in self._files() + self._files(".part"):
                with writing(path):
                    path.unlink()
                with suppress(OSError):  # not empty yet
                    path.parent.rmdir()
            write_all(self.root, {f"{self.kind}.json": self.made_from.encode()})
        for paths, maker in self.plan.items():
            if all(path.exists() for path in paths):
                continue
            waveforms = maker()
            channels, n_samples = waveforms[0].shape
            with audio.opened(paths, self.sample_rate_hz, channels, n_samples=n_samples) as writers:
                for append, waveform in zip(writers, waveforms, strict=True):
                    append(waveform)


def release(root: str | Path) -> None:
    """Release this process's locks on the sets in a folder, so that another process may replace them."""
    for path in Path(root).glob("*.lock"):
        unlock(path)
