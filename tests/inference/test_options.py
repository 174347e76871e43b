import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from hourglass_sep.inference import options
from hourglass_sep.inference.reconstruct import Misi, MixturePhase
from hourglass_sep.inference.refinement.refine import NmfRefinement
from hourglass_sep.support.errors import SettingError
from hourglass_sep.support.paths import CONFIG_DIR


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in options.GROUPS for name in options.names(group)]
)
def test_an_option_is_what_hydra_makes_of_it(group: str, name: str) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        expected = instantiate(compose("evaluate", overrides=[f"{group}={name}"])[group])
    found = options.load_options({group: name})[group]
    assert type(found) is type(expected)
    assert vars(found) == vars(expected)


def test_config_files_have_the_classes_own_defaults() -> None:
    assert vars(options.load_options({"refine": "nmf"})["refine"]) == vars(NmfRefinement())
    assert vars(options.load_options({"reconstruct": "misi"})["reconstruct"]) == vars(Misi())


def test_settings_are_changed_as_hydra_changes_them() -> None:
    changes = ["refine.rank=60", "refine.combine=0.5", "refine.sources=[accompaniment]", "reconstruct.iterations=2"]
    found = options.load_options({"refine": "nmf", "reconstruct": "misi"}, changes)
    assert (found["refine"].rank, found["refine"].combine, found["refine"].sources) == (60, 0.5, ("accompaniment",))
    assert found["reconstruct"].iterations == 2


@pytest.mark.parametrize(
    ("chosen", "change", "words"),
    [
        ({"refine": "magic"}, [], "refine='magic' is not allowed: choose from nmf, none"),
        (
            {"refine": "nmf"},
            ["refine.ranks=3"],
            "ranks=3 is no setting of refine=nmf: choose from refine.rank,",
        ),
        ({"refine": "nmf"}, ["refine.rank"], "write refine.rank=VALUE"),
        ({"refine": "none"}, ["refine.rank=3"], "choose others first, refine=nmf"),
        ({"refine": "nmf"}, ["refine._target_=os.system"], "is no setting"),
        ({"refine": "nmf"}, ["refine.rank=0"], "refine.rank=0 is not allowed"),
        ({"refine": "nmf"}, ["refine.rank=[3"], "cannot be read"),
        ({"refine": "nmf"}, ["refine.rank=${oc.env:HOME}"], "refine.rank="),
        ({"refine": "nmf"}, ["refine.rank=${nothing}"], "cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_is_named(chosen: dict[str, str], change: list[str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        options.load_options(chosen, change)


@pytest.mark.parametrize(
    "target",
    ["os.system", "hourglass_sep.data.augment.NoAugmentation", "hourglass_sep.inference.refinement.refine.Nothing"],
)
def test_nothing_but_the_two_groups_classes_is_built(target: str) -> None:
    with pytest.raises(SettingError, match=target):
        options.build({"_target_": target})
    with pytest.raises(SettingError, match="None"):
        options.build({})
    assert type(options.build({"_target_": "hourglass_sep.inference.reconstruct.MixturePhase"})) is MixturePhase


def test_separating_needs_neither_hydra_nor_the_factorisation_before_it_is_used() -> None:
    code = """
import sys
import hourglass_sep.separate
loaded = {"hydra", "pytorch_lightning", "wandb", "torchnmf", "cc3d", "librosa"} & sys.modules.keys()
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
