"""DSD100 (Liutkus et al. 2017, the data set of SiSEC 2016): 100 songs of four stereo stems at 44.1 kHz."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from hourglass_sep.data.authors_set import AuthorsSet
from hourglass_sep.data.clips import Clip, Part, Split
from hourglass_sep.data.splits import authors_split, same
from hourglass_sep.data.track_files import entries, make_clips, read_track
from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.support.errors import DataError

STEMS = ("bass", "drums", "other", "vocals")


class Dsd100(AuthorsSet):
    """DSD100, ``Mixtures/{Dev,Test}/TRACK/mixture.wav`` and ``Sources/{Dev,Test}/TRACK/STEM.wav``, or a part of it.

    The split is the authors': 50 songs (Dev) train, 50 (Test) test. Groups are artists, except that each song of an
    artist who is in both is a group of its own.

    ``root`` holds ``Sources``; without ``Mixtures``, mixtures are the sums of the sources. All Dev songs train unless
    ``validation`` says otherwise. Arguments: see `AuthorsSet`.
    """

    licence = (
        "DSD100 (Liutkus et al. 2017), from the 'Mixing Secrets' Free Multitrack Download Library: for educational "
        "purposes only, no commercial use without the permission of the copyright holders"
    )
    DEFAULT = STEMS

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
