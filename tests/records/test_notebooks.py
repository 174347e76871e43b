import ast
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass

REPO = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
READING_CLIPS = [path for path in NOTEBOOKS if "HOURGLASS_DATA_DIR" in path.read_text()]


def outputs(path: Path, root: Path, **environment: str) -> list[str]:
    """Run a notebook from top to bottom; what it prints and the Markdown that it shows."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}})
    client.execute(env=os.environ | {"HOURGLASS_DATA_DIR": str(root), "OMP_NUM_THREADS": "1"} | environment)
    found = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.get("text") or output.get("data", {}).get("text/markdown", "") for output in found]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped_of_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_imports_the_package_and_defines_nothing(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            defined = [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
            assert [node.name for node in defined] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_without_mir1k(path: Path, tmp_path: Path) -> None:
    texts = outputs(path, tmp_path)
    assert any("ideal ratio mask" in text for text in texts)
    if path.stem == "results":
        (table, *_) = [text for text in texts if text.startswith("|")]
        shown = (REPO / "README.md").read_text().splitlines()  # with rows of other systems between these
        places = [shown.index(line) for line in table.splitlines()]
        assert places == sorted(places)
        assert len(places) > 7


@pytest.mark.slow
@pytest.mark.parametrize("path", READING_CLIPS, ids=lambda path: path.stem)
def test_notebook_runs_with_mir1k(path: Path, mir1k_root: Path) -> None:
    assert any("ideal ratio mask" in text for text in outputs(path, mir1k_root))


@pytest.mark.slow
def test_the_tour_follows_the_sources_of_the_weights(tmp_path: Path) -> None:
    names = ("vocals", "drums", "bass", "other")
    network = StackedHourglass(stacks=2, channels=4, depth=1, sources=len(names))
    path = tmp_path / "four.safetensors"
    Separator(network, Spectrogram(), sources=names).save_weights(path, {})
    tour = REPO / "notebooks" / "tour.ipynb"
    (scores,) = [text for text in outputs(tour, tmp_path, HOURGLASS_WEIGHTS=str(path)) if "ideal ratio mask" in text]
    assert [part.split()[0] for part in scores.splitlines()[-1].removeprefix("ideal ratio mask").split(";")] == [*names]
