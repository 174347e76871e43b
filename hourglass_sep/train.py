"""Train a network: ``python -m hourglass_sep.train [key=value ...]``."""

from __future__ import annotations

import hourglass_sep.support.ctrl_c  # noqa: F401 - before torch, which takes seconds

# isort: split

from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from hourglass_sep.training.entry import hydra_main
from hourglass_sep.training.run import print_outcome, run


@hydra_main("train")
def main(cfg: DictConfig) -> None:
    """The command."""
    metrics = run(cfg)
    if not rank_zero_only.rank:  # type: ignore[attr-defined]
        print_outcome(cfg, metrics)


if __name__ == "__main__":
    main()
