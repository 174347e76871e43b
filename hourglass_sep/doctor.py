"""Say what works here and what to do about the rest: ``hourglass-sep doctor``, or ``python -m hourglass_sep.doctor``.

The exit code is 0 if everything works that separating songs needs: neither a GPU, nor MIR-1K, nor a W&B account.
Nothing is sent anywhere, and no key is printed. Everything is imported where it is used, see `doctor_checks`.
"""

from __future__ import annotations

import argparse
import configparser
import importlib.metadata
import json
import netrc
import os
import platform
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hourglass_sep import __version__
from hourglass_sep.diagnostics.doctor_checks import (
    DISTRIBUTION,
    REINSTALL,
    Row,
    codecs,
    reason,
    row,
    self_test,
    shipped_weights,
)
from hourglass_sep.support.errors import DataError
from hourglass_sep.support.paths import CONFIG_DIR, at_home
from hourglass_sep.support.terminal import or_exit

_SHORTEST_KEY = 40
_STYLES = {"ok": "green", "missing": "yellow", "failed": "bold red"}


def versions() -> list[Row]:
    """This package, Python, the system, and every dependency beside what is allowed."""
    rows = [
        row("ok", "program", f"hourglass_sep {__version__} in {Path(__file__).parent}", version=__version__),
        row("ok", "Python", f"{platform.python_version()}, {sys.executable}", version=platform.python_version()),
        row("ok", "platform", platform.platform()),
    ]
    try:
        wanted = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        text = f"not known: {DISTRIBUTION} is not installed, only its files are here"
        return [*rows, row("missing", "dependencies", text, remedy="pip install -e .", optional=True)]
    found: dict[str, Row] = {}
    for line in wanted:
        for dependency in _dependency(line):
            found.setdefault(dependency["what"], dependency)  # several extras may want the same
    return rows + list(found.values())


def _dependency(line: str) -> list[Row]:
    """A line of the metadata; nothing if it is another system's, or an extra's and not installed."""
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
        missing = row("missing", label, f"{name} is not installed", remedy=remedy, version=None, **facts)
        return [] if optional else [missing]
    if not bounds.contains(version, prereleases=True):
        text = f"{name} {version} is outside of {bounds}"
        return [row("failed", label, text, remedy=remedy, version=version, **facts)]
    return [row("ok", label, f"{name} {version}", version=version, **facts)]


def devices() -> list[Row]:
    """What can be computed on."""
    import torch

    from hourglass_sep.support.devices import found

    rows = [row("ok", "device", f"{name} ({kind})", what=name, kind=kind) for name, kind in found().items()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads, memory = torch.get_num_threads(), _memory_gib()
    text = f"{cores} core(s), {threads} torch thread(s)" + (f", {memory} GiB of memory" if memory else "")
    text += "" if len(rows) > 1 else ", no GPU found"
    text += f"; torch built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'no CUDA'}"
    return [*rows, row("ok", "machine", text, cores=cores, threads=threads, memory_gib=memory)]


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows, or a system that does not tell
        return None


def data_sets() -> list[Row]:
    """MIR-1K, where training would look for it from the current folder."""
    from omegaconf import OmegaConf

    from hourglass_sep.data.mir1k import find_clips, split_clips

    groups = {"data": "data/mir1k.yaml", "paths": "paths/default.yaml"}
    data = OmegaConf.create({group: OmegaConf.load(CONFIG_DIR / name) for group, name in groups.items()}).data
    root = at_home(data.root).absolute()
    facts: dict[str, Any] = {"optional": True, "path": str(root)}
    try:
        split = split_clips(find_clips(root), data.split, data.train_singers, data.validation_songs)
    except DataError:
        source = "HOURGLASS_DATA_DIR" + " is not set" * ("HOURGLASS_DATA_DIR" not in os.environ)
        text = f"no clips in {root} ({source}); only training and scoring need them"
        return [row("missing", "MIR-1K", text, remedy="export HOURGLASS_DATA_DIR=/path/to/MIR-1K", **facts)]
    clips = {"training": len(split.train), "validation": len(split.validation), "test": len(split.test)}
    text = ", ".join(f"{count} {part}" for part, count in clips.items())
    return [row("ok", "MIR-1K", f"{text} clips in {root}", clips=clips, **facts)]


def wandb_login() -> list[Row]:
    """Whether runs go to a W&B account: by the rules of the wandb package, without it and without a network."""
    host = urlsplit(_wandb_url()).netloc
    mode = os.environ.get("WANDB_MODE")
    key, source = _wandb_key(host)
    facts: dict[str, Any] = {"optional": True, "host": host, "mode": mode, "logged_in": bool(key)}
    runs = f"WANDB_MODE={mode}" if mode else f"runs are logged {'online' if key else 'offline'}"
    if not key:
        return [row("missing", "W&B login", f"none for {host}; {runs}", remedy="wandb login", **facts)]
    if len(key.partition("-")[2] or key) < _SHORTEST_KEY:  # an on-premises server's has a prefix
        text = f"the key for {host} in {source} is too short: wandb stops at keys of under {_SHORTEST_KEY} characters"
        return [row("failed", "W&B login", text, remedy="wandb login --relogin", **facts | {"logged_in": False})]
    return [row("ok", "W&B login", f"for {host} by {source}; {runs}", source=source, **facts)]


def _wandb_url() -> str:
    """The server: the environment's, else what ``wandb login --host`` has written down, else wandb.ai."""
    folder = at_home(os.environ.get("WANDB_CONFIG_DIR") or Path("~", ".config", "wandb"))
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(folder / "settings")
        written = settings.get("default", "base_url", fallback="")
    except (configparser.Error, ValueError):
        written = ""  # as wandb does, after a warning
    return os.environ.get("WANDB_BASE_URL") or written or "https://api.wandb.ai"


def _wandb_key(host: str) -> tuple[str, str]:
    """The key and where it is from; empty if there is none."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key, "WANDB_API_KEY"
    named = os.environ.get("NETRC")
    places = [at_home(place) for place in ([named] if named else ["~/.netrc", "~/_netrc"])]
    path = next((place for place in places if place.exists()), None)
    try:
        found = netrc.netrc(path).authenticators(host) if path else None
    except (netrc.NetrcParseError, OSError, ValueError):
        found = None  # as above
    return (found[2] or "", str(path)) if found else ("", "")


SECTIONS = {
    "versions": ("versions", versions, False),
    "devices": ("devices", devices, False),
    "codecs": ("sound files", codecs, False),
    "weights": ("weights", shipped_weights, False),
    "data": ("data sets", data_sets, True),
    "wandb": ("Weights & Biases", wandb_login, True),
    "self_test": ("self-test", self_test, False),
}
"""Key to title, check, and whether songs can be separated without."""


def examine() -> dict[str, Any]:
    """Look at everything; raises nothing.

    Returns:
        Plain types: rows (see `doctor_checks.row`) under each key of `SECTIONS`; ``works``, whether songs can be
        separated; ``verdict``, the same in words; ``seconds``, how long it took.
    """
    began = time.perf_counter()
    found: dict[str, Any] = {}
    for key, (title, check, optional) in SECTIONS.items():
        try:
            found[key] = check()
        except Exception as error:
            found[key] = [row("failed", title, reason(error), remedy=REINSTALL, optional=optional)]
    bad = [finding for rows in found.values() for finding in rows if finding["status"] != "ok"]
    needed = [finding for finding in bad if not finding["optional"]]
    extra = ", ".join(dict.fromkeys(finding["what"] for finding in bad if finding["optional"]))
    verdict = "everything works" + (f", except for what is optional: {extra}" if extra else "")
    if needed:
        remedies: dict[str, list[str]] = {}
        for finding in needed:
            remedies.setdefault(finding["remedy"], []).append(finding["what"])
        verdict = "; ".join(f"{', '.join(names)} -> {remedy}" for remedy, names in remedies.items())
        verdict = f"does not work: {verdict}"
    return {"works": not needed, "verdict": verdict, "seconds": round(time.perf_counter() - began, 2)} | found


def show(found: dict[str, Any]) -> None:
    """Print what `examine` has found."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    widths = [max(map(len, _STYLES)), max(len(finding["label"]) for key in SECTIONS for finding in found[key])]
    indent = " " * (sum(widths) + 6)
    for key, (title, _, _) in SECTIONS.items():
        console.print(Text(title, style="bold"))
        together: dict[tuple[str, str, str], list[str]] = {}
        for finding in found[key]:
            kind = (finding["status"], finding["label"], finding["remedy"])
            together.setdefault(kind, []).append(finding["text"])
        for (status, label, remedy), texts in together.items():
            lines = _wrapped(texts, console.width - len(indent)) + [f"-> {remedy}"] * bool(remedy)
            begin = Text.assemble("  ", (f"{status:<{widths[0]}}", _STYLES[status]), f"  {label:<{widths[1]}}  ")
            console.print(begin + Text(f"\n{indent}".join(lines)))
    console.print(Text(found["verdict"], style=_STYLES["ok" if found["works"] else "failed"]))


def _wrapped(texts: list[str], width: int) -> list[str]:
    """Texts in a row, in lines: names stay beside their versions, and paths and commands whole."""
    together = ", ".join(text.replace(" ", "\xa0") for text in texts) if len(texts) > 1 else texts[0]
    lines = textwrap.wrap(together, max(width, 20), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="hourglass-sep doctor", description="Say what works here, and what to do about the rest."
    )
    result.add_argument("--json", action="store_true", help="print one JSON object instead")
    return result


def run(arguments: Sequence[str] | None = None) -> int:
    """Examine and print.

    Returns:
        The exit code: 1 if something does not work that separating songs needs.
    """
    options = parser().parse_args(arguments)
    found = examine()
    if not options.json:
        try:
            show(found)
            return 0 if found["works"] else 1
        except ImportError:  # no rich: the report says so, too
            pass
    print(json.dumps(found, indent=1, allow_nan=False), flush=True)
    return 0 if found["works"] else 1


def main() -> None:
    """The command."""
    raise SystemExit(or_exit(run))


if __name__ == "__main__":
    main()
