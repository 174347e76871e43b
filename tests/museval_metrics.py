"""museval's metrics module by itself: importing the whole package looks for FFmpeg, which is not needed here."""

import importlib.util
from pathlib import Path
from types import ModuleType


def load() -> ModuleType:
    package = importlib.util.find_spec("museval")
    assert package is not None
    assert package.origin is not None
    spec = importlib.util.spec_from_file_location("museval_metrics_alone", Path(package.origin).parent / "metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
