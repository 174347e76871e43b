"""Checks of versions, dependencies and devices."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

from hourglass_sep import __version__
from hourglass_sep.diagnostics.findings import DISTRIBUTION, Finding, finding
from hourglass_sep.support.paths import PACKAGE_DIR


def versions() -> list[Finding]:
    """Versions of this package, Python and the platform, and of all dependencies against their allowed versions."""
    rows = [
        finding("ok", "program", f"hourglass_sep {__version__} in {PACKAGE_DIR}", version=__version__),
        finding("ok", "Python", f"{platform.python_version()}, {sys.executable}", version=platform.python_version()),
        finding("ok", "platform", platform.platform()),
    ]
    try:
        wanted = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        text = f"not known: {DISTRIBUTION} is not installed, only its files are here"
        return [*rows, finding("missing", "dependencies", text, remedy="pip install -e .", optional=True)]
    found: dict[str, Finding] = {}
    for line in wanted:
        for dependency in _dependency(line):
            found.setdefault(dependency["what"], dependency)  # several extras may require one package
    return rows + list(found.values())


def _dependency(line: str) -> list[Finding]:
    """Check a requirement of the package's metadata; no finding for other platforms, or for an extra not installed."""
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    name, bounds, marker = requirement.name, requirement.specifier, requirement.marker
    optional = "extra" in str(marker)
    if marker and not optional and not marker.evaluate():
        return []
    label, remedy = "optional" if optional else "dependencies", f"pip install '{name}{bounds}'"
    facts: dict[str, Any] = {"what": name, "optional": optional, "wanted": str(bounds)}
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        missing = finding("missing", label, f"{name} is not installed", remedy=remedy, version=None, **facts)
        return [] if optional else [missing]
    if not bounds.contains(version, prereleases=True):
        text = f"{name} {version} is outside of {bounds}"
        return [finding("failed", label, text, remedy=remedy, version=version, **facts)]
    return [finding("ok", label, f"{name} {version}", version=version, **facts)]


def devices() -> list[Finding]:
    """The devices to compute on, and the machine's cores, torch threads and memory."""
    import torch

    from hourglass_sep.support.devices import found

    rows = [finding("ok", "device", f"{name} ({kind})", what=name, kind=kind) for name, kind in found().items()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads, memory = torch.get_num_threads(), _memory_gib()
    text = f"{cores} core(s), {threads} torch thread(s)" + (f", {memory} GiB of memory" if memory else "")
    text += "" if len(rows) > 1 else ", no GPU found"
    text += f"; torch built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'no CUDA'}"
    return [*rows, finding("ok", "machine", text, cores=cores, threads=threads, memory_gib=memory)]


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows, or a system without these values
        return None
