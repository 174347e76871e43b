"""Provenance of a result: code, library versions, hardware."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = ("hourglass-sep", "torch", "torchaudio", "pytorch-lightning", "hydra-core", "wandb", "soxr", "numpy")


def provenance() -> dict[str, Any]:
    """Provenance to store with every result: commit, Python and library versions, and hardware, as strings."""
    return {
        "commit": git_commit(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "hardware": hardware(),
    }


def code_hash() -> str:
    """Hash of the source files of this package (16 hex digits): results of code with another hash may differ."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def git_commit() -> str:
    """Git commit of this package's checkout, with ``+`` if tracked files were edited; '' outside of a checkout."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        edited = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + "+" * bool(edited)


def hardware() -> str:
    """Number and name of the GPUs, or processor name and number of threads."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} thread(s)"


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()
