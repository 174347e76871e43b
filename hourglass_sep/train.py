"""Train a network: ``python -m hourglass_sep.train [key=value ...]``."""

from __future__ import annotations

from omegaconf import DictConfig

from hourglass_sep.training.entry import hydra_main


@hydra_main("train")
def main(cfg: DictConfig) -> None:
    """Run the ``train`` command."""
    from hourglass_sep.training.run import print_outcome, run  # slow, imports torch: --help comes before it

    metrics = run(cfg)
    print_outcome(cfg, metrics)


if __name__ == "__main__":
    main()
