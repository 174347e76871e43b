"""Findings: results of single checks, as plain types."""

from __future__ import annotations

from typing import Any

DISTRIBUTION = "hourglass-sep"
REINSTALL = "install hourglass-sep again"

Finding = dict[str, Any]


def finding(
    status: str, label: str, text: str, what: str = "", remedy: str = "", optional: bool = False, **facts: object
) -> Finding:
    """Make a finding.

    Args:
        status: ``ok``, ``missing`` (not installed, or not checked) or ``failed``.
        label: subject of the check; findings of one label, status and remedy are printed together.
        text: result of the check in words.
        what: name of the checked part in the verdict; by default the label.
        remedy: instruction for the user to fix a problem.
        optional: whether songs can be separated without the checked part.
        facts: machine-readable values behind the text.
    """
    shown = {"status": status, "label": label, "what": what or label, "text": text, "remedy": remedy}
    return shown | {"optional": optional} | facts


def reason(error: Exception) -> str:
    """The message of an error in one line, without the remedy at the end of a `UserError`."""
    from hourglass_sep.support.errors import UserError

    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text.rpartition(": ")[0] or text
    return f"{type(error).__name__}: {text}"[:200].removesuffix(": ")
