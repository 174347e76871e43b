"""DSD100 (Liutkus et al. 2017, the data set of SiSEC 2016): 100 songs of four stereo stems at 44.1 kHz."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from hourglass_sep.data.clips import Clip, Part, Split
from hourglass_sep.data.splits import Division, authors_split, group_rule, same
from hourglass_sep.data.track_files import ACCOMPANIMENT, choose_sources, entries, make_clips, read_track, unused
from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.support.errors import DataError
from hourglass_sep.support.paths import at_home

STEMS = ("bass", "drums", "other", "vocals")


class Dsd100:
    """DSD100, ``Mixtures/{Dev,Test}/TRACK/mixture.wav`` and ``Sources/{Dev,Test}/TRACK/STEM.wav``, or a part of it.

    The split is the authors': 50 songs (Dev) train, 50 (Test) test. Groups are artists, except that each song of an
    artist who is in both is a group of its own.

    Args:
        root: the folder that holds ``Sources``. Without ``Mixtures``, mixtures are the sums of the sources.
        sources: names of stems, or sums, in the order of the S axis. ``accompaniment`` is bass+drums+other.
        group: ``artist`` or ``track``, see `group_rule`.
        validation: a share of the training artists, or a list of artists or tracks; see `Division`. With None or 0, all
            50 train.
        fold: see `Division`; of the training songs.
        folds: see `Division`.
        split_seed: seed of a share, or of folds.

    Raises:
        SettingError: an argument is invalid.
    """

    licence = (
        "DSD100 (Liutkus et al. 2017), from the 'Mixing Secrets' Free Multitrack Download Library: for educational "
        "purposes only, no commercial use without the permission of the copyright holders"
    )

    def __init__(
        self,
        root: str | Path,
        sources: Sequence[str] = STEMS,
        group: str = "artist",
        validation: float | Sequence[str] | None = None,
        fold: int | None = None,
        folds: int | None = None,
        split_seed: int = 0,
    ) -> None:
        self.root = at_home(root)
        self._chosen = choose_sources(STEMS, sources, ACCOMPANIMENT)
        self.sources = tuple(self._chosen)
        self._group_of = group_rule(group)
        self._division = Division(validation, 0, fold, folds, split_seed)

    @property
    def unused(self) -> list[str]:
        """Stems that are in no source."""
        return unused(STEMS, self._chosen)

    def prepare(self) -> None:
        """Do nothing: DSD100 has to be downloaded."""

    def split(self) -> Split:
        """The clips by part.

        Raises:
            UserError: there are no tracks, a track lacks a stem or mixture, or see `Division`.
        """
        return self._split

    @cached_property
    def _split(self) -> Split:
        train, test = self._clips("Dev"), self._clips("Test")
        if not train and not test:
            raise DataError(
                f"no DSD100 tracks (Sources/{{Dev,Test}}/TRACK/STEM.wav) in {self.root}: set data.root to a copy of it "
                "(sigsep.github.io/datasets/dsd100.html)"
            )
        validation: list[Clip] = []
        if train and not self._division.default:
            train, validation = self._division.validate(train)
        return authors_split(train, validation, test)

    def _clips(self, part: str) -> list[Clip]:
        sources, mixtures = self.root / "Sources" / part, self.root / "Mixtures" / part
        tracks = [read_track(path) for path in entries(sources) if path.is_dir()] if sources.is_dir() else []
        if mixtures.is_dir():
            found = {same(path.name): Part(path / f"{MIXTURE}.wav") for path in entries(mixtures) if path.is_dir()}
            odd = sorted(found.keys() ^ {track.name for track in tracks})
            if odd:
                where = sources if odd[0] in found else mixtures
                raise DataError(f"{odd[0]} is missing in {where}: restore it from DSD100")
            tracks = [replace(track, mixture=found[track.name]) for track in tracks]
        if not tracks:
            return []
        return make_clips(tracks, self._chosen, self._group_of, remedy="restore it from DSD100")
