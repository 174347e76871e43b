"""Cards of the weights that ship, and summaries of cards; importable without torch, for help texts and lists."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from hourglass_sep.support.errors import CheckpointError
from hourglass_sep.support.paths import WEIGHTS_DIR

Summary = dict[str, Any]


def shipped_names() -> list[str]:
    """Names of the weights that ship."""
    return sorted(path.stem for path in WEIGHTS_DIR.glob("*.safetensors"))


def shipped_card(name: str) -> dict[str, Any]:
    """The card of weights that ship.

    Args:
        name: one of `shipped_names`.

    Raises:
        CheckpointError: the card is missing or damaged.
    """
    path = WEIGHTS_DIR / f"{name}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is missing or damaged: install hourglass-sep again") from error


def shipped_cards() -> dict[str, dict[str, Any]]:
    """The cards of the weights that ship, by name; see `shipped_card`."""
    return {name: shipped_card(name) for name in shipped_names()}


def shipped_summary(name: str) -> Summary:
    """Summary of weights that ship, see `summarise`.

    Args:
        name: one of `shipped_names`.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    from safetensors import safe_open  # with numpy

    path = WEIGHTS_DIR / f"{name}.safetensors"
    try:
        with safe_open(path, framework="numpy") as weights:
            parameters = sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    except Exception as error:  # safetensors raises errors of its own
        raise CheckpointError(f"{path} is damaged: install hourglass-sep again") from error
    return summarise(name, shipped_card(name), parameters, path.stat().st_size)


def summarise(name: str, description: Mapping[str, Any], parameters: int, n_bytes: int) -> Summary:
    """What users choose weights by, in plain types.

    Args:
        name: name of the weights, or their file.
        description: a valid description, see `hourglass_sep.checkpoints.card.problem`; its facts may be anything.
        parameters: number of parameters.
        n_bytes: size of the file in bytes.

    Returns:
        ``name``, ``sources``, ``sample_rate_hz``, ``channels``, ``network``, ``parameters``, ``bytes``; ``trained_on``,
        ``data_licence`` and ``licence``, '' if unknown; ``test_scores_db``, source to metric to score in dB;
        ``protocol``, the name of their protocol, and ``average``, that over clips, '' if unknown.
    """
    facts, audio = description.get("facts", {}), description["audio"]
    scores = facts.get("test_scores_db")
    scores = scores if isinstance(scores, dict) else {}
    protocol = scores.get("protocol")
    protocol = protocol if isinstance(protocol, dict) else {}
    return {
        "name": name,
        "sources": list(description["sources"]),
        "sample_rate_hz": audio["sample_rate_hz"],
        "channels": audio.get("channels", 1),
        "network": description["network"]["_target_"],
        "parameters": parameters,
        "bytes": n_bytes,
        **{key: _text(facts.get(key)) for key in ("trained_on", "data_licence", "licence")},
        "protocol": _text(protocol.get("name")),
        "average": _text(protocol.get("average")),
        "test_scores_db": {source: _numbers(scores.get(source)) for source in description["sources"]},
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _numbers(scores: Any) -> dict[str, float]:
    """The finite scores of a source by metric; without the number of clips and intervals."""
    items = scores.items() if isinstance(scores, dict) else ()
    return {
        metric: value
        for metric, value in items
        if metric != "clips" and isinstance(value, int | float) and math.isfinite(value)
    }


def headline(summary: Summary) -> list[str]:
    """The first metric, then each source's score: ``["GNSDR in dB", "vocals 10.23", ...]``; [] without scores."""
    scores = {source: values for source, values in summary["test_scores_db"].items() if values}
    if not scores:
        return []
    metric = next(iter(next(iter(scores.values()))))
    label = metric.upper().replace("_", "-")
    label = f"median {label}" if summary["average"] == "median" else label
    values = [f"{source} {found[metric]:.2f}" for source, found in scores.items() if metric in found]
    return [f"{label} in dB", *values]
