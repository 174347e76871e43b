"""All checks of `hourglass-sep doctor`, and their report on the terminal."""

from __future__ import annotations

import textwrap
import time
from typing import Any

from hourglass_sep.diagnostics.codecs import codecs
from hourglass_sep.diagnostics.findings import REINSTALL, finding, reason
from hourglass_sep.diagnostics.machine import devices, versions
from hourglass_sep.diagnostics.optional import data_sets, wandb_login
from hourglass_sep.diagnostics.separation import self_test, shipped_weights

_STYLES = {"ok": "green", "missing": "yellow", "failed": "bold red"}

SECTIONS = {
    "versions": ("versions", versions, False),
    "devices": ("devices", devices, False),
    "codecs": ("sound files", codecs, False),
    "weights": ("weights", shipped_weights, False),
    "data": ("data sets", data_sets, True),
    "wandb": ("Weights & Biases", wandb_login, True),
    "self_test": ("self-test", self_test, False),
}
"""Key to title, check, and whether songs can be separated if the check fails."""


def examine() -> dict[str, Any]:
    """Run all checks. An error in a check becomes a finding and is not raised.

    Returns:
        Plain types: a list of findings (see `findings.finding`) under each key of `SECTIONS`; ``works``, whether songs
        can be separated; ``verdict``, a summary in words; ``seconds``, the duration of all checks.
    """
    began = time.perf_counter()
    found: dict[str, Any] = {}
    for key, (title, check, optional) in SECTIONS.items():
        try:
            found[key] = check()
        except Exception as error:
            found[key] = [finding("failed", title, reason(error), remedy=REINSTALL, optional=optional)]
    bad = [finding for rows in found.values() for finding in rows if finding["status"] != "ok"]
    needed = [each for each in bad if not each["optional"]]
    extra = ", ".join(dict.fromkeys(finding["what"] for finding in bad if finding["optional"]))
    verdict = "everything works" + (f", except for what is optional: {extra}" if extra else "")
    if needed:
        remedies: dict[str, list[str]] = {}
        for each in needed:
            remedies.setdefault(each["remedy"], []).append(each["what"])
        verdict = "; ".join(f"{', '.join(names)} -> {remedy}" for remedy, names in remedies.items())
        verdict = f"does not work: {verdict}"
    return {"works": not needed, "verdict": verdict, "seconds": round(time.perf_counter() - began, 2)} | found


def show(found: dict[str, Any]) -> None:
    """Print the result of `examine`."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    widths = [max(map(len, _STYLES)), max(len(each["label"]) for key in SECTIONS for each in found[key])]
    indent = " " * (sum(widths) + 6)
    for key, (title, _, _) in SECTIONS.items():
        console.print(Text(title, style="bold"))
        together: dict[tuple[str, str, str], list[str]] = {}
        for each in found[key]:
            together.setdefault((each["status"], each["label"], each["remedy"]), []).append(each["text"])
        for (status, label, remedy), texts in together.items():
            lines = _wrapped(texts, console.width - len(indent)) + [f"-> {remedy}"] * bool(remedy)
            begin = Text.assemble("  ", (f"{status:<{widths[0]}}", _STYLES[status]), f"  {label:<{widths[1]}}  ")
            console.print(begin + Text(f"\n{indent}".join(lines)))
    console.print(Text(found["verdict"], style=_STYLES["ok" if found["works"] else "failed"]))


def _wrapped(texts: list[str], width: int) -> list[str]:
    """Join texts by commas and wrap them to `width` characters.

    Several texts, as ``name version``, are only broken between texts; a single one only at spaces, so that paths stay
    whole.
    """
    together = ", ".join(text.replace(" ", "\xa0") for text in texts) if len(texts) > 1 else texts[0]
    lines = textwrap.wrap(together, max(width, 20), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]
