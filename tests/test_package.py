"""The public interface: the names of hourglass_sep.__all__."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import hourglass_sep

REPO = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", hourglass_sep.__all__)
def test_every_public_name_is_there_and_has_a_docstring_of_its_own(name: str) -> None:
    found = getattr(hourglass_sep, name)
    assert isinstance(found, (str, tuple)) or found.__doc__
    assert isinstance(found, (str, tuple)) or found.__name__ == name


def test_the_docstring_names_what_is_public_and_nothing_else() -> None:
    table = str(hourglass_sep.__doc__).split("Axes,")[0]
    assert set(re.findall(r"`(\w+)`", table.partition("| purpose")[2])) == set(hourglass_sep.__all__) - {"__version__"}
    assert set(dir(hourglass_sep)) == set(hourglass_sep.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Separater'"):
        _ = hourglass_sep.Separater


def test_the_package_is_imported_without_torch_and_commands_answer_without_it(tmp_path: Path) -> None:
    """Help, ``--cfg job`` and a mistyped key: only the objects of a run need torch and Lightning."""
    code = """
import runpy, sys
import hourglass_sep
for module, arguments in {
    "train": ["--help"], "evaluate": ["--cfg", "job"], "demo": ["modle.stacks=2"],
    "separate": ["--help"], "report": ["--help"], "score": ["--help"], "export": ["--help"],
}.items():
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(f"hourglass_sep.{module}", run_name="__main__")
    except SystemExit as end:
        assert end.code in (0, 2), (module, end.code)
loaded = {"torch", "pytorch_lightning", "wandb", "matplotlib", "numpy"} & sys.modules.keys()
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)


def test_nothing_bears_a_name_of_the_standard_library() -> None:
    """``python hourglass_sep/score.py`` puts the package's own folder first on the path."""
    names = {path.stem for path in (REPO / "hourglass_sep").iterdir()}
    assert not names & sys.stdlib_module_names


def test_the_console_script_finds_classes_in_the_current_folder(tmp_path: Path) -> None:
    """As ``python -m`` does: ``loss._target_=my_losses.masked_l2``."""
    code = "import sys; sys.argv = ['hourglass-sep', 'train', '--help']; sys.path.remove(''); "
    code += "from hourglass_sep import cli\ntry: cli.main()\nexcept SystemExit: pass\nimport mine"
    (tmp_path / "mine.py").touch()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
