import json
from pathlib import Path

import pytest

from hourglass_sep.inference.separator import Separator
from hourglass_sep.support.errors import SettingError
from hourglass_sep.training.evaluation_run import run
from tests.helpers.runs import composed

QUICK = ("protocol=si_sdr", "baselines=none", "limit=1")


def test_settings_that_are_not_given_are_those_the_weights_came_with(tiny_mir1k: Path, tmp_path: Path) -> None:
    changes = ("inference.masks=raw", "inference.window_frames=null")
    rows = run(composed("evaluate", *QUICK, *changes, f"data.root={tiny_mir1k}", run_dir=tmp_path))
    assert {row["clip"] for row in rows} == {"Ani_1_01"}
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["files"] == {"Ani_1_01": [str(tiny_mir1k / "Wavfile" / "Ani_1_01.wav")]}
    assert content["data"]["root"] == str(tiny_mir1k)
    assert content["inference"] == Separator.from_pretrained().settings | {"masks": "raw", "window_frames": None}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("part=tset", "part='tset' is not allowed: choose from train, validation, test"),
        ("limit=0", "limit=0"),
        ("workers=-1", "workers=-1"),
        ("+baselines.mixture=null", "baselines.mixture is not allowed"),
    ],
)
def test_what_cannot_be_evaluated_is_named(override: str, words: str, tiny_mir1k: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=words):
        run(composed("evaluate", *QUICK, override, f"data.root={tiny_mir1k}", run_dir=tmp_path))
