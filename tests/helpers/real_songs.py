import os
from pathlib import Path

import pytest

from tests.conftest import REPO


def real_songs(name: str) -> Path:
    """A folder of real songs with stems; the test is skipped if it is missing."""
    root = Path(os.environ.get("HOURGLASS_SONGS_DIR", REPO.parent / "shared" / "data" / "songs")) / name
    if not root.is_dir():
        pytest.skip(f"no {root}: set HOURGLASS_SONGS_DIR")
    return root
