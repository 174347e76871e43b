"""Ablation of mask refinement and reconstruction: GNSDR of every combination. Takes some minutes.

    python experiments/refinement/ablation.py [WEIGHTS ...] [--split NAME] [--validation-only] [--out FOLDER]

On the validation clips, every combination of refinement and reconstruction is scored for the masks of all WEIGHTS (the
name of shipped weights, a checkpoint, or LABEL=CHECKPOINT; by default the default weights) and for three kinds of
degraded ideal ratio masks. The combination that scores best with the first WEIGHTS is then scored on the test clips
with the default weights, beside no refinement.

Writes validation.csv, cost.csv, refinement.png, reconstruction.png, clip.png, test/{none,best}/scores.json and
test/report, which compares the two.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from plots import draw
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from hourglass_sep.audio import resample
from hourglass_sep.data.clips import Clip, loaded
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
from hourglass_sep.dsp.masks import ideal_ratio_mask, share
from hourglass_sep.dsp.stems import ESTIMATE, SOURCES
from hourglass_sep.inference.options import build, names
from hourglass_sep.inference.refinement.refine import NmfRefinement, NoRefinement
from hourglass_sep.inference.separator import Separator
from hourglass_sep.plotting.separation import picture
from hourglass_sep.results.bootstrap import paired_interval
from hourglass_sep.results.report import make_report
from hourglass_sep.results.scores_file import write_results
from hourglass_sep.results.show import show_report
from hourglass_sep.scoring.evaluation import evaluate_all
from hourglass_sep.scoring.journal import Journal, score_all
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.scoring.rows import Row, score_clip, summarise
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.paths import CONFIG_DIR
from hourglass_sep.support.provenance import provenance

RANKS = (20, 60, 160)
COMBINE = ("max", "mean", 0.5)
REFINED_SOURCES = (("vocals",), SOURCES)
RECONSTRUCT = names("reconstruct")
PROTOCOL = load_protocol("mir1k")
NONE_REBUILT = "mixture_phase"
TIMED_CLIPS = 8


@dataclass(frozen=True)
class Variant:
    """A combination of refinement and reconstruction.

    Attributes:
        rank: number of NMF components R; 0 means no refinement.
        combine: rule that combines mask and cluster means, see `NmfRefinement`.
        sources: names of the sources whose masks are refined.
        reconstruct: name of an option of conf/reconstruct.
    """

    rank: int
    combine: str | float
    sources: tuple[str, ...]
    reconstruct: str

    @property
    def fields(self) -> dict[str, Any]:
        """The columns of a table that describe the variant."""
        fields = {"rank": self.rank or "none", "combine": self.combine, "refined": " ".join(self.sources)}
        return fields | {"reconstruct": self.reconstruct}

    @property
    def refine(self) -> dict[str, Any]:
        """The refinement as a description of the form of conf/refine."""
        if not self.rank:
            return {"_target_": "hourglass_sep.inference.refinement.refine.NoRefinement"}
        settings = {"rank": self.rank, "combine": self.combine, "sources": list(self.sources)}
        return {"_target_": "hourglass_sep.inference.refinement.refine.NmfRefinement", **settings}


NONE = Variant(0, "", (), NONE_REBUILT)
VARIANTS = [Variant(0, "", (), rebuilt) for rebuilt in RECONSTRUCT] + [
    Variant(*settings) for settings in itertools.product(RANKS, COMBINE, REFINED_SOURCES, RECONSTRUCT)
]


class Known(NmfRefinement):
    """A refinement with precomputed label maps, which all variants of a rank share."""

    def __init__(self, maps: Sequence[tuple[slice, Tensor | None]], variant: Variant) -> None:
        super().__init__(variant.rank, combine=variant.combine, sources=variant.sources)
        self._maps = maps

    def label_maps(self, magnitude: Tensor) -> Iterator[tuple[slice, Tensor | None]]:
        return iter(self._maps)


def spoilt(ideal: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Degrade the voice's ideal ratio mask (F, T) in three ways: name of the degradation to masks (1, S, F, T)."""
    generator = torch.Generator().manual_seed(seed)
    blur = partial(F.avg_pool2d, kernel_size=(9, 5), stride=1, padding=(4, 2), count_include_pad=False)
    logits = torch.logit(ideal.clamp(1e-3, 1 - 1e-3))
    noise = torch.randn(ideal.shape, generator=generator)
    patches = blur(noise[None])[0] * (9 * 5) ** 0.5
    vocals = {
        "ideal mask, noise in every cell": torch.sigmoid(logits + 2 * noise),
        "ideal mask, blurred": blur(ideal[None])[0],
        "ideal mask, mistakes in patches": torch.sigmoid(logits + 2 * patches),
    }
    return {name: torch.stack([1 - mask, mask])[None] for name, mask in vocals.items()}


def look(clip: Clip, separator: Separator) -> tuple[Tensor, Tensor, Tensor]:
    """Load references (S, 1, N), their spectra (S, 1, F, T) without the highest bin, and magnitude (1, 1, F, T)."""
    references = loaded(clip, SOURCES).sources
    stft = separator.spectrogram
    spectra = stft(resample(references, SAMPLE_RATE_HZ, stft.sample_rate_hz))
    return references, spectra[..., : stft.n_freq, :], stft.view(spectra.sum(0)[None])


@torch.inference_mode()
def score(models: dict[str, Separator], builders: dict[str, Separator], clip: Clip) -> list[Row]:
    """Score every variant with every kind of masks on one clip.

    Args:
        models: name of each kind of network masks to its separator.
        builders: name of each option of conf/reconstruct to a separator that uses it.
        clip: the clip.

    Returns:
        Rows whose system is "kind of masks|index of the variant in VARIANTS".
    """
    references, spectra, magnitude = look(clip, next(iter(models.values())))
    kinds = {
        name: model.stack_masks(magnitude, slice(-1, None))[0, :, :, 0] for name, model in models.items()
    } | spoilt(ideal_ratio_mask(spectra)[SOURCES.index("vocals"), 0])
    maps = {rank: [*NmfRefinement(rank).label_maps(magnitude[0, 0])] for rank in RANKS}
    estimates = {}
    for (kind, masks), (number, variant) in itertools.product(kinds.items(), enumerate(VARIANTS)):
        refine = Known(maps[variant.rank], variant) if variant.rank else NoRefinement()
        applied = share(refine(masks, magnitude)[:, :, None], "sum_to_one")
        builder = builders[variant.reconstruct]
        estimates[f"{kind}|{number}"] = builder.render(references.sum(0)[None], SAMPLE_RATE_HZ, applied)[0]
    return score_clip(PROTOCOL, clip.name, references, estimates, SAMPLE_RATE_HZ)


def tabulate(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Average the scores of each kind of masks, variant and source.

    Returns:
        Records with GNSDR, GSIR, GSAR, and the GNSDR difference to `NONE` with its 95 % interval, in dB, as strings.
    """
    table: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        table.setdefault((row["system"], row["source"]), {})[row["clip"]] = row
    summary = summarise(rows, PROTOCOL.headline, PROTOCOL.average)
    records = []
    for system in (name for name in summary if "|" in name):
        kind, number = system.split("|")
        variant = VARIANTS[int(number)]
        for source in reversed(SOURCES):
            mine, none = table[system, source], table[f"{kind}|{VARIANTS.index(NONE)}", source]
            difference = paired_interval(
                *([row["nsdr"] for row in part.values()] for part in (mine, none)),
                [row["n_samples"] for row in mine.values()],
                PROTOCOL.average,
            )
            records.append(
                {"masks": kind, **variant.fields, "source": source}
                | {name: f"{summary[system][source][name]:.3f}" for name in ("gnsdr", "gsir", "gsar")}
                | {name: f"{getattr(difference, name):+.3f}" for name in ("value", "low", "high")}
            )
    return records


def best(records: Sequence[dict[str, Any]], kind: str) -> Variant:
    """The variant, other than `NONE`, with the highest GNSDR summed over both sources, for the masks named ``kind``."""

    def total(variant: Variant) -> float:
        fields = {"masks": kind, **variant.fields}
        return sum(float(record["gnsdr"]) for record in records if fields.items() <= record.items())

    return max((variant for variant in VARIANTS if variant != NONE), key=total)


def costs(separator: Separator, builders: dict[str, Separator], clips: Sequence[Clip]) -> list[dict[str, Any]]:
    """Measure seconds of computation per minute of audio for the network, each refinement and each reconstruction.

    One thread; the first clip is processed once more beforehand as a warm-up.
    """
    torch.set_num_threads(1)
    spent: dict[str, float] = {}

    def timed(what: str, work: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = work(*arguments)
        spent[what] = spent.get(what, 0.0) + time.perf_counter() - start
        return result

    minutes = 0.0
    with torch.inference_mode():
        for number, clip in enumerate([clips[0], *clips[:TIMED_CLIPS]]):
            references, _, magnitude = look(clip, separator)
            mixture = references.sum(0)[None]
            masks = timed("masks of the default weights", separator.estimate_masks, magnitude)
            for rank in RANKS:
                timed(f"refinement, rank {rank}", NmfRefinement(rank), masks[:, :, 0], magnitude)
            for name, builder in builders.items():
                timed(f"reconstruction, {name}", builder.render, mixture, SAMPLE_RATE_HZ, masks)
            minutes += mixture.shape[-1] / SAMPLE_RATE_HZ / 60
            if not number:  # discard the warm-up
                spent, minutes = {}, 0.0
    return [{"what": what, "seconds per minute": f"{seconds / minutes:.3f}"} for what, seconds in spent.items()]


def described(reconstruct: str) -> dict[str, Any]:
    """Load an option of conf/reconstruct."""
    return dict(OmegaConf.load(CONFIG_DIR / "reconstruct" / f"{reconstruct}.yaml"))


def write(path: Path, records: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def test(variant: Variant, clips: Sequence[Clip], out: Path) -> None:
    """Score the default weights on the test clips with `NONE` and with ``variant``, and report the difference."""
    folders = []
    for name, one in {"none": NONE, "best": variant}.items():
        post = {"refine": one.refine, "reconstruct": described(one.reconstruct)}
        separator = Separator.load("default", **{group: build(description) for group, description in post.items()})
        rows = evaluate_all(separator, clips, PROTOCOL, {}, out / "unfinished", what=f"test, {name}")
        facts = {"weights": "default", "inference": separator.settings, "post": post, "part": "test"}
        folders.append(out / "test" / name)
        write_results(folders[-1], rows, PROTOCOL, ESTIMATE, facts | provenance())
    files = [f"none={folders[0]}", f"best={folders[1]}"]
    show_report(make_report(files, out / "test" / "report", compare=["best", "none"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", default=["default weights=default"], help="a name, or LABEL=CHECKPOINT")
    parser.add_argument("--out", type=Path, default=Path("outputs/refinement"), help="folder (%(default)s)")
    parser.add_argument("--split", default="standard", help="data.split (%(default)s)")
    parser.add_argument("--limit", type=int, help="only the first so many clips of each part")
    parser.add_argument("--validation-only", action="store_true", help="leave the test clips alone")
    options = parser.parse_args()
    if options.limit is not None and options.limit < 2:
        raise UserError(f"--limit {options.limit} is not allowed: give 2 or more, intervals want that")
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        data = instantiate(compose("evaluate", overrides=[f"data.split={options.split}"]).data)
    data.prepare_data()
    parts = data.clips()
    validation, tested = parts.validation[: options.limit], parts.test[: options.limit]
    words = [word.partition("=") for word in options.weights]
    models = {f"masks of {label}": Separator.load(name or label) for label, _, name in words}
    builders = {name: Separator.load("default", reconstruct=build(described(name))) for name in RECONSTRUCT}
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=110)

    rows = score_all(
        partial(score, models, builders), {clip.name: clip for clip in validation}, Journal(None, {}), what="validation"
    )
    records = tabulate(rows)
    write(options.out / "validation.csv", records)
    draw(records, options.out)  # all figures of the choice are drawn before the test clips are scored
    first = loaded(validation[0], SOURCES).sources
    refining = Separator.load("default", refine=NmfRefinement())
    picture(refining, first.sum(0), SAMPLE_RATE_HZ, first).savefig(options.out / "clip.png", dpi=80)
    chosen = best(records, next(iter(models)))
    words = ", ".join(f"{name} {value}" for name, value in chosen.fields.items() if value)
    console.print(f"best on {len(validation)} validation clips, other than none: {words}", highlight=False)
    if not options.validation_only:
        test(chosen, tested, options.out)
    write(options.out / "cost.csv", costs(Separator.load("default"), builders, validation))
    console.print(f"tables and figures: {options.out}", highlight=False)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
