"""The pages that `make docs` builds from docs/ and the docstrings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent.name for path in (REPO / "hourglass_sep").glob("*/__init__.py"))


def test_every_folder_of_the_package_has_a_reference_page() -> None:
    pages = {path.stem: path.read_text() for path in (REPO / "docs" / "reference").glob("*.md")}
    assert sorted(pages.keys() - {"package"}) == FOLDERS
    for folder in FOLDERS:
        assert f"::: hourglass_sep.{folder}\n" in pages[folder]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_has_what_people_look_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    for page, words in {
        "inference": ["from_pretrained", "segment_seconds", "Multichannel Wiener filter"],
        "networks": ["StackedHourglass", "feature maps"],
        "scoring": ["si_sdr", "average_score"],
    }.items():
        text = (tmp_path / "reference" / f"{page}.html").read_text()
        assert all(word in text for word in words), page
