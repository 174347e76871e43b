"""Several data sets at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from hourglass_sep.data.clips import Catalogue, Clip, Split
from hourglass_sep.data.splits import PARTS, some, suggestion
from hourglass_sep.dsp.stems import read_sources
from hourglass_sep.support.errors import DataError, SettingError

_SONG = re.compile(r"(?:\d+ - )?(.+ - .+)")


class Mixed:
    """Several data sets as one, whose clips are drawn with given weights.

    Names of clips and groups are prefixed with ``SET/``. A source that a set does not have is unknown in its clips:
    they lack its key in `Clip.stems`, and have no mixture; they are for training only. A song ``ARTIST - TITLE`` that
    one set trains on and another validates or tests on is an error: MUSDB18 tests on songs of DSD100's Dev.

    Args:
        sets: data sets by name.
        weights: relative frequency of the sets' clips in training, for each set; if None, the numbers of their clips.
        sources: names of the sources, in the order of the S axis; if None, the sets' in the order of their occurrence.
        silent: sources that a set does not have because they are silent in all of its clips, by the set's name: vocals
            for instrumentals.
        validation_sets: sets to validate on; if None, all that have validation clips with all sources.
        test_sets: sets to test on, likewise.

    Raises:
        SettingError: an argument is invalid.
    """

    def __init__(
        self,
        sets: Mapping[str, Catalogue],
        weights: Mapping[str, float] | None = None,
        sources: Sequence[str] | None = None,
        silent: Mapping[str, Sequence[str]] | None = None,
        validation_sets: Sequence[str] | None = None,
        test_sets: Sequence[str] | None = None,
    ) -> None:
        if not sets:
            raise SettingError("data.sets is empty: give data sets by name")
        self._sets = dict(sets)
        self._silent = dict(silent or {})
        self._weights = None if weights is None else dict(weights)
        self._asked = None if sources is None else tuple(sources)
        self._scored = {"validation": validation_sets, "test": test_sets}
        for key, names in (
            ("weights", weights),
            ("silent", silent),
            ("validation_sets", validation_sets),
            ("test_sets", test_sets),
        ):
            for name in names or ():
                if name not in self._sets:
                    raise SettingError(
                        f"data.{key} has {name}, which is none of data.sets{suggestion(name, list(sets))}: choose from "
                        f"{some(list(sets))}"
                    )
        if self._weights is not None:
            for name in self._sets:
                weight = self._weights.get(name)
                if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight < float("inf"):
                    raise SettingError(f"data.weights.{name}={weight!r} is not allowed: give a number from 0 on")
            if not any(self._weights.values()):
                raise SettingError("data.weights are all 0: give one set more")
        if self._asked is not None and any(parts != (name,) for name, parts in read_sources(self._asked).items()):
            raise SettingError("sources has a sum: give sums as the sources of the sets in data.sets")

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, in the order of the S axis.

        Raises:
            SettingError: a set has another source, none of them, or a silent one.
        """
        found = dict.fromkeys(source for each in self._sets.values() for source in each.sources)
        sources = tuple(found) if self._asked is None else self._asked
        for name, each in self._sets.items():
            strange = [source for source in each.sources if source not in sources]
            if strange:
                raise SettingError(
                    f"data.sets.{name} has the source {strange[0]}, which is none of sources: add it there, or set "
                    f"data.sets.{name}.sources"
                )
            for source in self._silent.get(name, ()):
                if source not in sources or source in each.sources:
                    fault = "the set has it" if source in each.sources else f"sources are {', '.join(sources)}"
                    raise SettingError(f"data.silent.{name} has {source}, but {fault}: leave it out")
        lacking = [source for source in sources if source not in found]
        if lacking:
            raise SettingError(f"sources has {lacking[0]}, which no set of data.sets has: leave it out")
        return sources

    @cached_property
    def licence(self) -> str:
        """The sets' lines, each after the set's name; '' if none is known."""
        lines = {name: each.licence for name, each in self._sets.items()}
        return (
            "; ".join(f"{name}: {line or 'not known'}" for name, line in lines.items()) if any(lines.values()) else ""
        )

    def prepare(self) -> None:
        """Prepare all sets."""
        for each in self._sets.values():
            each.prepare()

    def split(self) -> Split:
        """The clips by part.

        Raises:
            UserError: see `sources` and the sets; a set to validate or test on has no clips with all sources; or a song
                is on both sides.
        """
        return self._split

    def clip_weights(self) -> dict[str, float]:
        """Probability of each training clip, by its name: the weight of its set by the number of its clips.

        Raises:
            DataError: a set with a weight above 0 has no training clips.
        """
        clips = self._parts["train"]
        if self._weights is None:
            return {clip.name: 1 / sum(map(len, clips.values())) for of in clips.values() for clip in of}
        weights = self._weights
        for name, of in clips.items():
            if weights[name] and not of:
                raise DataError(f"the set {name} has no training clips: set data.weights.{name}=0")
        total = sum(weights.values())
        return {clip.name: weights[name] / total / len(of) for name, of in clips.items() for clip in of}

    @cached_property
    def _split(self) -> Split:
        parts = {part: [clip for clips in self._parts[part].values() for clip in clips] for part in PARTS}
        songs: dict[str, tuple[str, Clip]] = {}
        for part, clips in parts.items():
            for clip in clips:
                found = _SONG.fullmatch(clip.name.rpartition("/")[2])
                other, twin = songs.setdefault(found[1].casefold(), (part, clip)) if found else (part, clip)
                if other != part:
                    raise DataError(
                        f"{twin.name} is in {other} and {clip.name}, the song of that name, in {part}: leave one of "
                        "the sets out, or choose others by data.validation_sets and data.test_sets"
                    )
        return Split(**parts)

    @cached_property
    def _parts(self) -> dict[str, dict[str, list[Clip]]]:
        """The clips by part and set."""
        parts: dict[str, dict[str, list[Clip]]] = {part: {} for part in PARTS}
        sources = self.sources
        for name, each in self._sets.items():
            split = each.split()
            for part in PARTS:
                parts[part][name] = [self._renamed(name, clip) for clip in getattr(split, part)]
        for part, wanted in self._scored.items():
            for name, clips in parts[part].items():
                whole = [clip for clip in clips if len(clip.stems) == len(sources)]
                if wanted is not None and name in wanted and not whole:
                    raise DataError(
                        f"data.{part}_sets has {name}, which has no {part} clips with all sources: leave it out"
                    )
                parts[part][name] = whole if wanted is None or name in wanted else []
        return parts

    def _renamed(self, name: str, clip: Clip) -> Clip:
        """A clip of the set ``name`` as one of this set."""
        stems = dict.fromkeys(self._silent.get(name, ()), ()) | dict(clip.stems)
        known = {source: stems[source] for source in self.sources if source in stems}
        mixture = clip.mixture if len(known) == len(self.sources) else None
        return replace(clip, name=f"{name}/{clip.name}", group=f"{name}/{clip.group}", stems=known, mixture=mixture)
