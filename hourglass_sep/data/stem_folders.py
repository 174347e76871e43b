"""Folders of stems, ``TRACK/STEM.wav``, as in MUSDB and DSD100: pairing of references with estimates.

Nothing is guessed: a folder or stem without a counterpart is an error that names it. Files called mixture are ignored,
as the mixture is the sum of the references.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hourglass_sep import audio
from hourglass_sep.data.track_files import sound_files
from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.support.errors import DataError

MOST_LACKING_SECONDS = 0.25
"""Largest allowed difference in length from the first reference in s: for encoders' padding and STFTs' cut edges."""

_EXACT = (".wav", ".flac")  # formats whose headers hold the exact length


@dataclass(frozen=True)
class Track:
    """The stems of one song: references and estimates.

    Attributes:
        name: path of its folder relative to the references' root.
        references: by stem, the files whose sum is the reference.
        estimates: by stem, the file of the estimate.
    """

    name: str
    references: Mapping[str, Sequence[Path]]
    estimates: Mapping[str, Path]

    def paths(self) -> dict[str, dict[str, Any]]:
        """All files as absolute paths in plain types: ``references`` and ``estimates``, each by stem."""
        references = {stem: [str(path.resolve()) for path in paths] for stem, paths in self.references.items()}
        return {"references": references, "estimates": {k: str(v.resolve()) for k, v in self.estimates.items()}}

    def check(self) -> int:
        """Compare the headers of all files.

        Returns:
            The largest difference in length from the first reference in samples, over files whose headers hold exact
            lengths.

        Raises:
            DataError: files differ in sample rate, channels, or by more than `MOST_LACKING_SECONDS` in length.
        """
        paths = [path for parts in self.references.values() for path in parts] + list(self.estimates.values())
        first, *others = [(path, audio.info(path)) for path in paths]
        most = 0
        for path, info in others:
            for what, unit, remedy in (
                ("sample_rate_hz", "Hz", "resample one of them"),
                ("channels", "channel(s)", "convert one of them"),
            ):
                mine, theirs = getattr(first[1], what), getattr(info, what)
                if mine != theirs:
                    raise DataError(f"{path} has {theirs} {unit}, but {first[0]} has {mine}: {remedy}")
            exact = all(each.suffix.lower() in _EXACT for each in (path, first[0]))
            if exact and info.n_samples is not None and first[1].n_samples is not None:
                most = max(most, self._lacking(path, info.n_samples, first[0], first[1].n_samples, info.sample_rate_hz))
        return most

    @staticmethod
    def _lacking(path: Path, theirs: int, first: Path, mine: int, rate: int) -> int:
        if abs(theirs - mine) > MOST_LACKING_SECONDS * rate:
            raise DataError(
                f"{path} has {theirs} samples, but {first} has {mine}: up to {MOST_LACKING_SECONDS:g} s are cut or "
                "padded, trim or pad one of them"
            )
        return abs(theirs - mine)

    def load(self) -> tuple[Tensor, Tensor, int, int]:
        """Read all files, at the length of the first reference: longer ones are cut, shorter ones zero-padded.

        museval does so as well.

        Returns:
            References (S, C, N) and estimates (S, C, N), in the order of ``references``, their sample rate in Hz, and
            the largest difference in length from the first reference in samples.

        Raises:
            DataError: see `check`.
            AudioError: a file cannot be read.
        """
        self.check()
        first = next(iter(self.references.values()))[0]
        waveform, rate = audio.read(first)
        n_samples, most = waveform.shape[-1], 0

        def read(path: Path) -> Tensor:
            nonlocal most
            found = waveform if path == first else audio.read(path)[0]
            most = max(most, self._lacking(path, found.shape[-1], first, n_samples, rate))
            return F.pad(found, (0, n_samples - found.shape[-1]))

        references = [torch.stack([read(path) for path in paths]).sum(0) for paths in self.references.values()]
        estimates = [read(self.estimates[stem]) for stem in self.references]
        return torch.stack(references), torch.stack(estimates), rate, most


def find_tracks(
    reference: Path,
    estimate: Path,
    stems: Collection[str] | None = None,
    sums: Mapping[str, Sequence[str]] | None = None,
    partial: bool = False,
) -> list[Track]:
    """Pair the folders under two roots, and the files in them, by name.

    Args:
        reference: root of the references; its subfolder ``Sources``, as in DSD100, is used instead if it exists.
        estimate: root of the estimates. A reference folder pairs with the estimate folder of equal relative path or,
            if there is none, with the only estimate folder of equal name.
        stems: names of the stems to score; by default all, which must then be equal on both sides.
        sums: references that are sums of reference stems: the names of the parts by the name of the sum, for example
            ``drums, bass, other`` by ``accompaniment``.
        partial: whether to leave out references without an estimate, instead of raising.

    Returns:
        The tracks, in the order of the reference folders.

    Raises:
        DataError: a folder or stem has no counterpart, or more than one.
    """
    reference = reference / "Sources" if (reference / "Sources").is_dir() else reference
    wanted, found = _folders(reference, estimate), _folders(estimate, reference)
    by_name: dict[str, list[Path]] = {}
    for folder in found:
        by_name.setdefault(folder.name, []).append(folder)
    pairs: dict[Path, Path] = {}
    for folder in wanted:
        twins = [folder] if folder in found else by_name.get(folder.name, [])
        if len(twins) > 1:
            names = " and ".join(str(estimate / twin) for twin in twins)
            raise DataError(f"{reference / folder} could belong to {names}: lay both folders out alike")
        if twins:
            pairs[folder] = twins[0]
    for twin in found:
        rivals = [str(reference / folder) for folder in pairs if pairs[folder] == twin]
        if len(rivals) > 1:
            raise DataError(f"{estimate / twin} could belong to {' and '.join(rivals)}: lay both folders out alike")
    missing = [str(reference / folder) for folder in wanted if folder not in pairs]
    if missing and not partial:
        raise DataError(f"{_some(missing)} in {estimate} has no estimate: separate it, or leave it out by --partial")
    strange = [str(estimate / folder) for folder in found if folder not in pairs.values()]
    if strange:
        raise DataError(f"{_some(strange)} has no reference in {reference}: name folders as the references' are")
    if not pairs:
        raise DataError(f"no folder of {estimate} is one of {reference}: name folders as the references' are")
    return [
        _pair(str(folder) if folder.parts else reference.resolve().name, wanted[folder], found[twin], stems, sums or {})
        for folder, twin in pairs.items()
    ]


def _folders(root: Path, other: Path) -> dict[Path, dict[str, Path]]:
    """Stem files by name, by folder relative to ``root``; ``other`` is left out if it lies inside ``root``."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give the folder that holds TRACK/STEM.wav")
    folders: dict[Path, dict[str, Path]] = {}
    here, there = (Path(os.path.realpath(path)) for path in (root, other))
    lexical = os.path.abspath(other)
    own = {os.path.realpath(folder) for folder, _, _ in os.walk(root)}
    seen: set[str] = set()
    paths = []
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        linked = real != os.path.join(here, os.path.relpath(folder, root)).removesuffix("/.")
        # Skip folders visited before, links to folders inside this root, and links to folders that contain it.
        if real in seen or (linked and real in own) or (seen and here.is_relative_to(real)):
            below.clear()
            continue
        if not here.is_relative_to(there) and any(
            Path(path).is_relative_to(end) for path, end in ((real, there), (os.path.abspath(folder), lexical))
        ):
            below.clear()
            continue
        seen.add(real)
        below.sort()
        paths += [Path(folder) / name for name in names]
    for path in sorted(paths):
        if sound_files([path]) and path.stem != MIXTURE and not path.name.startswith("."):
            stems = folders.setdefault(path.parent.relative_to(root), {})
            if path.exists() and not path.is_file():
                raise DataError(f"{path} is no file: remove it")
            if path.stem in stems:
                raise DataError(f"{path} and {stems[path.stem].name} are the same stem: remove one")
            stems[path.stem] = path
    if not folders:
        raise DataError(f"no stems in {root}: it should hold TRACK/STEM.wav (or .flac, .mp3, .m4a, ...)")
    return folders


def _pair(
    name: str,
    references: Mapping[str, Path],
    estimates: Mapping[str, Path],
    stems: Collection[str] | None,
    sums: Mapping[str, Sequence[str]],
) -> Track:
    """Pair the stems of the track ``name``; see `find_tracks`."""
    parts: dict[str, list[Path]] = {stem: [path] for stem, path in references.items()}
    for stem, names in sums.items():
        absent = sorted(set(names) - references.keys())
        if absent:
            raise DataError(f"the reference of {name} lacks {', '.join(absent)}, of which {stem} is to be the sum")
        if stem in references.keys() - set(names):
            raise DataError(f"the reference of {name} has a {stem} of its own: give the sum another name")
        for part in names:
            parts.pop(part, None)
        parts[stem] = [references[part] for part in names]
    chosen = set(parts.keys() | estimates.keys() if stems is None else stems)
    for side, present in (("reference", parts.keys()), ("estimate", estimates.keys())):
        absent = sorted(chosen - present)
        if absent:
            raise DataError(
                f"the {side} of {name} lacks {', '.join(absent)} (it has {', '.join(sorted(present))}): choose with "
                "--stems what is in both, or make a reference of several with --sum accompaniment=bass+drums+other"
            )
    order = sorted(chosen)
    return Track(name, {stem: parts[stem] for stem in order}, {stem: estimates[stem] for stem in order})


def _some(names: Sequence[str]) -> str:
    """The first name, followed by the number of further names, for messages."""
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
