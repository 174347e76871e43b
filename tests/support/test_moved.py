import importlib
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hourglass_sep.inference import options
from hourglass_sep.inference.refinement.refine import NmfRefinement
from hourglass_sep.support.moved import MODULES, current, update_targets

OLD = Path(__file__).parents[1] / "records" / "old"


@pytest.mark.parametrize("target", (OLD / "targets.txt").read_text().split())
def test_every_target_that_a_config_ever_named_leads_to_what_bears_its_name(target: str) -> None:
    module, _, name = current(target).rpartition(".")
    assert getattr(importlib.import_module(module), name).__name__ == name


@pytest.mark.parametrize(
    "target",
    ["torch.optim.Adam", "hourglass_sep.data.augment.Remix", "hourglass_sep.losses", "mine.refine.NmfRefinement", "x"],
)
def test_other_names_are_left_alone(target: str) -> None:
    assert current(target) == target


def test_new_names_are_not_renamed_again() -> None:
    for module in MODULES.values():
        assert current(f"hourglass_sep.{module}.X") == f"hourglass_sep.{module}.X"


def test_a_score_files_old_refinement_is_built() -> None:
    built = options.build({"_target_": "hourglass_sep.refine.NmfRefinement", "rank": 7})
    assert isinstance(built, NmfRefinement)
    assert built.rank == 7


def test_a_users_old_config_is_brought_up_to_date_and_nothing_else_in_it_changes() -> None:
    text = """
loss: {_target_: hourglass_sep.losses.masked_l1, _partial_: true}
baselines:
  a/b: {_target_: hourglass_sep.baselines.OracleMask, mask: {_target_: hydra.utils.get_method,
        path: hourglass_sep.masking.ideal_ratio_mask}}
rest: [1, {_target_: hourglass_sep.refine.NoRefinement}, "${loss._target_}", hourglass_sep.losses.masked_l1]
"""
    cfg = OmegaConf.create(text)
    update_targets(cfg)
    expected = re.sub(r"_sep\.(losses\.)(?=masked_l1, _)", r"_sep.training.\1", text)
    expected = expected.replace("_sep.baselines.", "_sep.scoring.systems.").replace("_sep.masking.", "_sep.dsp.masks.")
    expected = expected.replace("_sep.refine.", "_sep.inference.refinement.refine.")
    assert OmegaConf.to_container(cfg) == OmegaConf.to_container(OmegaConf.create(expected))
