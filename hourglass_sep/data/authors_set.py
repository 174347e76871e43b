"""What MUSDB18 and DSD100 have in common: stems and a division that their authors have fixed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from hourglass_sep.data.clips import Split
from hourglass_sep.data.splits import Division, group_rule
from hourglass_sep.data.track_files import ACCOMPANIMENT, choose_sources, unused
from hourglass_sep.support.paths import at_home


class AuthorsSet:
    """A data set whose authors divide it; the groups are artists, see `hourglass_sep.data.splits.authors_split`.

    Args:
        root: folder of the data set.
        sources: names of stems, or sums, in the order of the S axis; `DEFAULT` if None. ``accompaniment`` is the sum of
            drums, bass and other.
        group: ``artist`` or ``track``, see `group_rule`.
        validation: the validation part of the training songs, see `Division`; the data set's own if None.
        fold: see `Division`; of the training songs.
        folds: see `Division`.
        split_seed: seed of a share, or of folds.

    Raises:
        SettingError: an argument is invalid.
    """

    DEFAULT: Sequence[str]
    """The sources if none are chosen: all stems."""

    def __init__(
        self,
        root: str | Path,
        sources: Sequence[str] | None = None,
        group: str = "artist",
        validation: float | Sequence[str] | None = None,
        fold: int | None = None,
        folds: int | None = None,
        split_seed: int = 0,
    ) -> None:
        self.root = at_home(root)
        self._chosen = choose_sources(sorted(self.DEFAULT), self.DEFAULT if sources is None else sources, ACCOMPANIMENT)
        self.sources = tuple(self._chosen)
        self._group_of = group_rule(group)
        self._division = Division(validation, 0, fold, folds, split_seed)

    @property
    def unused(self) -> list[str]:
        """Stems that are in no source."""
        return unused(sorted(self.DEFAULT), self._chosen)

    def prepare(self) -> None:
        """Do nothing: the authors give out the data set."""

    def split(self) -> Split:
        """The clips by part.

        Raises:
            UserError: there are no tracks, a track lacks a stem or its mixture, or see `Division`.
        """
        return self._split

    @cached_property
    def _split(self) -> Split:
        raise NotImplementedError
