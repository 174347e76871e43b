"""An evaluation run: from a composed config to the scores of trained weights, and a report in W&B."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, WandbLogger

from hourglass_sep.dsp.stems import ESTIMATE, MIXTURE
from hourglass_sep.inference.options import GROUPS
from hourglass_sep.inference.separator import Separator
from hourglass_sep.results.report import log_to_wandb, make_report
from hourglass_sep.results.scores_file import write_results
from hourglass_sep.scoring.evaluation import evaluate_all
from hourglass_sep.scoring.protocols import ScoringProtocol
from hourglass_sep.scoring.rows import Row, as_metrics
from hourglass_sep.scoring.systems import System
from hourglass_sep.support.checks import check_choice, check_whole
from hourglass_sep.support.devices import choose_device
from hourglass_sep.support.errors import DataError, SettingError
from hourglass_sep.support.provenance import provenance
from hourglass_sep.support.terminal import complain
from hourglass_sep.training.build import build_loggers
from hourglass_sep.training.build_separator import build_post
from hourglass_sep.training.loggers import Attempt, finalize

PARTS = ("train", "validation", "test")


def run(cfg: DictConfig) -> list[Row]:
    """Evaluate according to a config and write the results into the run folder.

    Args:
        cfg: composed config ``evaluate``.

    Returns:
        The score rows of all clips and systems.

    Raises:
        UserError: missing data or weights, an unknown part, or an invalid setting.
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
    changes = {name: cfg.inference[name] for name in cfg.inference if not OmegaConf.is_missing(cfg.inference, name)}
    separator = Separator.load(cfg.ckpt_path, trust=list(cfg.trust), **build_post(cfg), **changes)
    separator = separator.to(choose_device(cfg.device))
    baselines = _fitting(baselines, separator.sources)
    if cfg.sources is None:
        cfg.sources = [*separator.sources]
    datamodule = instantiate(cfg.data)
    if datamodule.sources != separator.sources:
        ours, theirs = (",".join(names) for names in (separator.sources, datamodule.sources))
        raise SettingError(
            f"sources=[{theirs}] is not allowed, {cfg.ckpt_path} separates [{ours}]: leave sources out, or give these "
            "in this order, sums as NAME=STEM+STEM"
        )
    datamodule.prepare_data()
    clips = getattr(datamodule.clips(), cfg.part)[: cfg.limit]
    if not clips:
        raise DataError(
            f"{cfg.data.get('root', 'data')} has no clips for part={cfg.part}: choose another part or data.root"
        )
    datamodule.survey(clips)  # an invalid clip is found before time is spent on the others
    facts = {
        "weights": cfg.ckpt_path,
        "inference": separator.settings,
        "post": {group: OmegaConf.to_container(cfg[group], resolve=True) for group in GROUPS},
        "data": _plain(cfg.data),
        "files": {clip.name: [str(path.resolve()) for path in clip.files] for clip in clips},
        "part": cfg.part,
    }
    facts |= provenance()

    def keep(rows: list[Row], worst: bytes) -> None:
        write_results(Path(cfg.paths.run_dir), rows, protocol, ESTIMATE, facts, worst)

    unfinished = Path(cfg.paths.unfinished_dir)
    rows = evaluate_all(
        separator, clips, protocol, baselines, unfinished, cfg.workers, keep=keep, mixture=datamodule.mixture
    )
    _log(build_loggers(cfg.logger), rows, protocol, facts, Path(cfg.paths.run_dir))
    return rows


def _fitting(baselines: dict[str, System], sources: Sequence[str]) -> dict[str, System]:
    """The baselines that can estimate these sources; a line is printed for each of the others."""
    kept = {}
    for name, system in baselines.items():
        try:
            getattr(system, "check", lambda sources: None)(sources)
        except SettingError as error:
            complain(f"baselines.{name} is left out: {error}")
        else:
            kept[name] = system
    return kept


def _plain(data: DictConfig) -> Any:
    """A data config in plain types, without what training only needs."""
    content = OmegaConf.to_container(data, resolve=True)
    assert isinstance(content, dict)
    return {key: value for key, value in content.items() if key not in ("spectrogram", "augment", "effects")}


def _log(
    loggers: Sequence[Logger], rows: Sequence[Row], protocol: ScoringProtocol, facts: dict[str, Any], run: Path
) -> None:
    """Log the averages to all loggers, and a report of the run folder to W&B."""
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
