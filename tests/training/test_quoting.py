from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from hourglass_sep.support.errors import UserError
from hourglass_sep.support.paths import CONFIG_DIR
from hourglass_sep.training.quoting import hydra_argument

NAMES = r"""
epoch=3-step=8.ckpt
MIR (1)
a,b
it's
#1
a#b
~x
a~b
R&B
a b
[live]
{x}
{
(
[
${}
$x
a\b
ends\
a'b"c
"q"x
a:b
a::b
100%
null.ckpt
true
1e5
*
?!;|<>
=
ü é 日本
a\'b
""".splitlines()[1:]


def read(argument: str) -> str:
    value = OverridesParser.create().parse_override(argument).value()
    return str(OmegaConf.create({"value": value}).value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["ckpt_path", "data.root", "paths.data_dir", "+callbacks.mine.dirpath"])
def test_a_path_means_the_file_of_that_name_whatever_the_name(key: str, name: str) -> None:
    for value in (name, f"/folder/{name}/file"):
        argument = hydra_argument(f"{key}={value}")
        assert read(argument) == value
        assert hydra_argument(argument) == argument  # as further ranks are started with it


def test_a_config_has_the_path_that_was_meant() -> None:
    value = "/x/${}/it's (1), [a]=b/{c} #~&\\"
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [hydra_argument(f"data.root={value}"), hydra_argument(f"ckpt_path={value}")])
    assert (cfg.data.root, cfg.ckpt_path) == (value, value)


MEANT = """
~model
-m
--cfg=job
seed=3
model=compact
model.stacks=1,2
ckpt_path=null
ckpt_path='a b'
data.root=
data.root=${oc.env:HOME}/x
hydra.run.dir=${paths.data_dir}
data.seconds=[3.0,6.0]
task_name=a b
+callbacks.stop={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val_loss}
""".splitlines()[1:]


@pytest.mark.parametrize("argument", MEANT)
def test_what_hydra_reads_as_it_is_meant_is_left_alone(argument: str) -> None:
    assert hydra_argument(argument) == argument


def test_a_tilde_is_the_home_folder() -> None:
    assert hydra_argument("data.root=~/MIR-1K") == f"data.root='{Path.home()}/MIR-1K'"


def test_a_multirun_sweeps_over_paths_unless_there_is_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hydra_argument("ckpt_path=a.ckpt,b.ckpt", multirun=True) == "ckpt_path=a.ckpt,b.ckpt"
    assert hydra_argument("ckpt_path=x=1.ckpt,x=2.ckpt", multirun=True) == "ckpt_path='x=1.ckpt','x=2.ckpt'"
    (tmp_path / "a,b").touch()
    assert hydra_argument("ckpt_path=a,b", multirun=True) == "ckpt_path='a,b'"
    (tmp_path / "${HOME}").touch()
    assert read(hydra_argument("ckpt_path=${HOME}")) == "${HOME}"


@pytest.mark.parametrize("argument", ["data.train_singers=[amy", "+x={a: 1", "task_name='a"])
def test_a_value_that_is_not_whole_is_refused_with_its_key_and_the_remedy(argument: str) -> None:
    with pytest.raises(UserError, match=r"cannot be read: close .*='\.\.\.'"):
        hydra_argument(argument)
    assert hydra_argument("task_name=a (1)") == "task_name='a (1)'"
