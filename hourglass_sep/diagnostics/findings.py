"""Findings: what an examination says of one thing, in plain types."""

from __future__ import annotations

from typing import Any

DISTRIBUTION = "hourglass-sep"
REINSTALL = "install hourglass-sep again"

Finding = dict[str, Any]


def finding(
    status: str, label: str, text: str, what: str = "", remedy: str = "", optional: bool = False, **facts: object
) -> Finding:
    """A finding, in plain types.

    Args:
        status: ``ok``, ``missing`` (not here, or not tried) or ``failed``.
        label: what it is about; findings of the same label and status are printed together.
        text: the finding.
        what: the name of what may not work, by default the label.
        remedy: what the user can do about it.
        optional: whether songs can be separated without it.
        facts: machine-readable values behind the text.
    """
    shown = {"status": status, "label": label, "what": what or label, "text": text, "remedy": remedy}
    return shown | {"optional": optional} | facts


def reason(error: Exception) -> str:
    """An error in one line, without the remedy that this package's own messages end with."""
    from hourglass_sep.support.errors import UserError

    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text.rpartition(": ")[0] or text
    return f"{type(error).__name__}: {text}"[:200].removesuffix(": ")
