"""Score weights on MIR-1K: ``python -m hourglass_sep.evaluate ckpt_path=... [key=value ...]``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from hourglass_sep.training.entry import hydra_main


@hydra_main("evaluate")
def main(cfg: DictConfig) -> None:
    """Run the ``evaluate`` command."""
    from hourglass_sep.results.show import show_scores  # slow, imports torch: --help comes before it
    from hourglass_sep.training.evaluation_run import run

    run(cfg)
    show_scores(Path(cfg.paths.run_dir))


if __name__ == "__main__":
    main()
