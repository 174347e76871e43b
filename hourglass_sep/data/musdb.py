"""MUSDB18 and MUSDB18-HQ (Rafii et al. 2017, zenodo.org/records/1117372 and 3338373): 150 songs of four stems."""

from __future__ import annotations

from functools import cached_property

from hourglass_sep.data.authors_set import AuthorsSet
from hourglass_sep.data.clips import Clip, Part, Split
from hourglass_sep.data.splits import authors_split, same
from hourglass_sep.data.track_files import (
    STREAMS_SUFFIX,
    TrackFiles,
    entries,
    make_clips,
    read_track,
)
from hourglass_sep.support.errors import DataError

VALIDATION_TRACKS = (
    "ANiMAL - Rockshow",
    "Actions - One Minute Smile",
    "Alexander Ross - Goodbye Bolero",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Fergessen - Nos Palpitants",
    "James May - On The Line",
    "Johnny Lokke - Promises & Lies",
    "Leaf - Summerghost",
    "Meaxic - Take A Step",
    "Patrick Talbot - A Reason To Leave",
    "Skelpolu - Human Mistakes",
    "Traffic Experiment - Sirens",
    "Triviul - Angelsaint",
    "Young Griffo - Pennies",
)
"""The 14 of the 100 training songs on which the package ``musdb`` validates (its configs/mus.yaml)."""

_STREAMS = {"mixture": 1, "drums": 2, "bass": 3, "other": 4, "vocals": 5}


class Musdb18(AuthorsSet):
    """MUSDB18-HQ, ``{train,test}/TRACK/STEM.wav``, or MUSDB18, ``{train,test}/TRACK.stem.mp4``, or a part of them.

    The split is the authors': 86 songs train, `VALIDATION_TRACKS` validate, 50 test. It has artists on both sides: most
    validation artists train as well, and Skelpolu also tests. Groups are artists, except that each song of an artist
    who is in several parts is a group of its own.

    ``root`` holds ``train`` and ``test``. Of the training songs `VALIDATION_TRACKS` validate unless ``validation`` says
    otherwise; with 0 all train. Arguments: see `AuthorsSet`.
    """

    licence = (
        "MUSDB18 (Rafii et al. 2017): for educational purposes only, no commercial use without the permission of the "
        "copyright holders; 46 of 150 tracks CC BY-NC-SA 4.0 (MedleyDB), 2 CC BY-NC-SA 3.0"
    )
    DEFAULT = ("vocals", "drums", "bass", "other")

    @cached_property
    def _split(self) -> Split:
        train, test = self._clips("train"), self._clips("test")
        if not train and not test:
            raise DataError(
                f"no MUSDB18 tracks ({{train,test}}/TRACK/STEM.wav or TRACK{STREAMS_SUFFIX}) in {self.root}: set "
                "data.root to a copy of it (zenodo.org/records/3338373)"
            )
        validation: list[Clip] = []
        if not self._division.default:
            train, validation = self._division.validate(train) if train else ([], [])
        elif train:
            validation = [clip for clip in train if clip.name in VALIDATION_TRACKS]
            if not validation:
                raise DataError(
                    f"none of MUSDB18's validation tracks is in {self.root / 'train'}: set data.validation to a list "
                    "of tracks, or to a share such as 0.1"
                )
            train = [clip for clip in train if clip.name not in VALIDATION_TRACKS]
        return authors_split(train, validation, test)

    def _clips(self, part: str) -> list[Clip]:
        folder = self.root / part
        tracks: dict[str, TrackFiles] = {}
        for path in entries(folder) if folder.is_dir() else []:
            if path.name.endswith(STREAMS_SUFFIX):
                streams = {stem: Part(path, stream) for stem, stream in _STREAMS.items()}
                track = TrackFiles(same(path.name.removesuffix(STREAMS_SUFFIX)), streams, streams.pop("mixture"))
            elif path.is_dir():
                track = read_track(path)
            else:
                continue
            if tracks.setdefault(track.name, track) is not track:
                raise DataError(f"{track.name} is in {folder} as a folder and as {STREAMS_SUFFIX}: remove one of them")
        if not tracks:
            return []
        return make_clips(list(tracks.values()), self._chosen, self._group_of, remedy="restore it from MUSDB18-HQ")
