"""Score weights on MIR-1K: ``python -m hourglass_sep.evaluate ckpt_path=... [key=value ...]``."""

from __future__ import annotations

import hourglass_sep.support.ctrl_c  # noqa: F401 - before torch, which takes seconds

# isort: split

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, WandbLogger

from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ, Clip
from hourglass_sep.inference.bands import refuse_not_finite
from hourglass_sep.inference.options import GROUPS
from hourglass_sep.inference.separator import Separator
from hourglass_sep.report import log_to_wandb, make_report
from hourglass_sep.results.scores_file import show, write_results
from hourglass_sep.scoring.journal import Journal, score_all
from hourglass_sep.scoring.protocols import Protocol
from hourglass_sep.scoring.rows import Row, as_metrics, score_clip
from hourglass_sep.scoring.systems import Model, System
from hourglass_sep.signal.stems import ESTIMATE, MIXTURE
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.devices import choose_device
from hourglass_sep.support.errors import DataError, NotFiniteError, SettingError
from hourglass_sep.support.paths import at_home
from hourglass_sep.support.provenance import code_hash, provenance
from hourglass_sep.training.build import build_loggers, build_post
from hourglass_sep.training.entry import hydra_main
from hourglass_sep.training.loggers import Attempt, finalize

PARTS = ("train", "validation", "test")


def evaluate(separator: Separator, clip: Clip, protocol: Protocol, baselines: Mapping[str, System]) -> list[Row]:
    """Score a separator, baselines and the unprocessed mixture on one clip.

    Args:
        separator: what is scored; scores are computed on its device.
        clip: what is separated.
        protocol: how.
        baselines: name to system, see `hourglass_sep.scoring.systems`.

    Returns:
        Rows as `hourglass_sep.scoring.rows.score_clip` makes them.

    Raises:
        NotFiniteError: the separator's weights overflow.
    """
    references = clip.load()[:, None]  # (S, C, N)
    mixture = protocol.mixture(references)
    systems: dict[str, System] = {ESTIMATE: Model(), **baselines}
    with torch.inference_mode():
        estimates = {
            name.replace("_", " "): system(mixture, references, SAMPLE_RATE_HZ, separator).to(separator.device)
            for name, system in systems.items()
        }
    try:
        refuse_not_finite(estimates[ESTIMATE], separator.origin)
    except NotFiniteError as error:
        raise NotFiniteError(f"{clip.name} is not scored: {error}") from None
    return score_clip(protocol, clip.name, references.to(separator.device), estimates, SAMPLE_RATE_HZ)


def evaluate_all(
    separator: Separator,
    clips: Sequence[Clip],
    protocol: Protocol,
    baselines: Mapping[str, System],
    journal_dir: Path | None = None,
    workers: int | None = None,
    what: str = "scoring",
    keep: Callable[[list[Row]], object] = lambda rows: None,
) -> list[Row]:
    """Score clips in parallel; see `evaluate`.

    Args:
        separator: what is scored.
        clips: which clips.
        protocol: how.
        baselines: name to system.
        journal_dir: where finished clips are kept until all are done; None keeps nothing.
        workers: clips at a time, by default one a core.
        what: the progress bar's title.
        keep: called with all rows; where it fails, the finished clips stay in the journal.

    Raises:
        Interrupted: by Ctrl-C; an equal call goes on where this one ended.
    """
    facts = {
        "protocol": protocol.hash,
        "code": code_hash(),
        "separator": _fingerprint(separator),
        "baselines": {name: _settings(system) for name, system in baselines.items()},
        "clips": [[clip.name, clip.path.stat().st_size, clip.path.stat().st_mtime_ns] for clip in clips],
    }
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    journal = Journal(journal_dir / f"{name}.jsonl" if journal_dir else None, facts, protocol.metrics)
    jobs = {clip.name: clip for clip in clips}
    rows = score_all(lambda clip: evaluate(separator, clip, protocol, baselines), jobs, journal, workers, what)
    keep(rows)
    journal.close()
    return rows


def _fingerprint(separator: Separator) -> str:
    """A hash of everything that estimates depend on."""
    post = _settings(separator.refine), _settings(separator.reconstruct)
    parts = (separator.settings, separator.spectrogram.config, post, separator.network)
    digest = hashlib.sha256(repr(parts).encode())
    for value in separator.network.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _settings(thing: object) -> str:
    """An object's class and public attributes in words; functions by name, as their addresses differ between runs."""
    attributes = {name: value for name, value in sorted(vars(thing).items()) if not name.startswith("_")}
    values = {name: getattr(value, "__qualname__", value) for name, value in attributes.items()}
    return f"{type(thing).__qualname__} {values}"


def run(cfg: DictConfig) -> list[Row]:
    """Evaluate as the config says and write the results into the run folder.

    Raises:
        UserError: missing data or weights, or a part that does not exist.
    """
    check_choice("part", cfg.part, PARTS)
    for name in ("limit", "workers"):
        if cfg[name] is not None:
            check_whole(name, cfg[name])
    protocol = instantiate(cfg.protocol)
    baselines = dict(instantiate(cfg.baselines) or {})
    for name in (ESTIMATE, MIXTURE):
        if name in baselines:
            raise SettingError(f"baselines.{name} is not allowed, every table has a row of that name: choose another")
    changes = {name: value for name, value in cfg.inference.items() if value != "own"}
    separator = Separator.load(cfg.ckpt_path, **build_post(cfg), **changes).to(choose_device(cfg.device))
    datamodule = instantiate(cfg.data)
    datamodule.prepare_data()
    clips = getattr(datamodule.clips(), cfg.part)[: cfg.limit]
    if not clips:
        raise DataError(f"{cfg.data.root} has no clips for part={cfg.part}: choose another part or data.root")
    for clip in clips:
        clip.load()  # a bad one is found before any time is spent on the others
    facts = {
        "audio": {
            "kind": "mir1k",
            "root": str(at_home(cfg.data.root).resolve()),
            "weights": cfg.ckpt_path,
            "inference": separator.settings,
            "post": {group: OmegaConf.to_container(cfg[group], resolve=True) for group in GROUPS},
        },
        "part": cfg.part,
    }
    facts |= provenance()

    def keep(rows: list[Row]) -> None:
        write_results(Path(cfg.paths.run_dir), rows, protocol, ESTIMATE, facts)

    unfinished = Path(cfg.paths.unfinished_dir)
    rows = evaluate_all(separator, clips, protocol, baselines, unfinished, cfg.workers, keep=keep)
    _log(build_loggers(cfg.logger), rows, protocol, facts, Path(cfg.paths.run_dir))
    return rows


def _log(loggers: Sequence[Logger], rows: Sequence[Row], protocol: Protocol, facts: dict[str, Any], run: Path) -> None:
    """The averages for every logger, a report of the run folder for W&B."""
    for logger in loggers:
        status = "failed"
        try:
            logger.log_hyperparams({"protocol": protocol.describe(), **facts})
            logger.log_metrics(as_metrics(rows, protocol, ESTIMATE, facts["part"]))
            if isinstance(logger, WandbLogger):
                report = make_report([run], run / "report")
                Attempt("W&B report")(log_to_wandb, report, logger.experiment)
            status = "success"
        finally:
            finalize(logger, status)


@hydra_main("evaluate")
def main(cfg: DictConfig) -> None:
    """The command."""
    run(cfg)
    show(Path(cfg.paths.run_dir))


if __name__ == "__main__":
    main()
