"""Checks of the shipped weights, and of a separation with the default weights on every device."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hourglass_sep.diagnostics.findings import DISTRIBUTION, REINSTALL, Finding, finding, reason

SELF_TEST_SEED = 0
SELF_TEST_SECONDS = 4.0
SUM_TOLERANCE = 1e-5
"""Largest absolute difference between the sum of the stems and the mixture; full scale is 1."""
LEAST_GAIN_DB = 6.0
"""Least SI-SDR improvement over the mixture, for each source: half of that of the default weights on this song (11.7
and 12.0 dB). Over 24 such songs their median is 8.5 dB, and one song gains nothing; networks that have learned nothing
gain -0.8 to 0.3 dB."""


def shipped_weights() -> list[Finding]:
    """Check every file of weights: its hash is that of the installed file, it loads, and all weights are finite.

    The facts of each are those of its card, see `hourglass_sep.checkpoints.shipped.summarise`.
    """
    from hourglass_sep.checkpoints import store

    rows = [_weights(path) for path in sorted(store.WEIGHTS_DIR.glob("*.safetensors"))]
    if not any(each["label"] == "default" for each in rows):
        text = f"no default.safetensors in {store.WEIGHTS_DIR}"
        rows.append(finding("missing", "default", text, what="default weights", remedy=REINSTALL))
    return rows


def _weights(path: Path) -> Finding:
    from hourglass_sep.checkpoints.shipped import headline, summarise
    from hourglass_sep.inference.separator import Separator

    facts: dict[str, Any] = {"what": f"{path.stem} weights", "path": str(path)}
    try:
        content = path.read_bytes()
        facts |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if _recorded(path) not in (None, facts["sha256"]):
            raise ValueError(f"{path} is not the file that was installed")
        separator = Separator.from_pretrained(path.stem)
    except Exception as error:
        return finding("failed", path.stem, reason(error), remedy=REINSTALL, **facts)
    parameters = sum(value.numel() for value in separator.network.parameters())
    card = summarise(path.stem, separator.description, parameters, len(content))
    facts |= card
    text = f"{parameters:,} parameters, {len(content) / 1e6:.1f} MB, sha256 {facts['sha256'][:16]}"
    text += f"; {', '.join(card['sources'])}; {card['sample_rate_hz']} Hz, {card['channels']} channel(s)"
    label, *scores = headline(card) or ["no scores"]
    return finding("ok", path.stem, f"{text}; {' '.join([label, ', '.join(scores)]).rstrip()}", **facts)


def _recorded(path: Path) -> str | None:
    """The sha256 (hex) that pip recorded when it installed a file; None in a checkout, which has no such record."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == path.name and file.hash and Path(str(file.locate())).resolve() == path.resolve():
            return base64.urlsafe_b64decode(file.hash.value + "=").hex()
    return None


def self_test() -> list[Finding]:
    """Separate a synthetic song with the default weights on every device."""
    from hourglass_sep.data.synthetic.synthesis import synthesize_song
    from hourglass_sep.dsp.stems import SOURCES
    from hourglass_sep.support.devices import found

    song = dict(zip(SOURCES, synthesize_song(SELF_TEST_SEED, SELF_TEST_SECONDS), strict=True))
    return [_separate(name, song) for name in found()]


def _separate(device: str, song: Mapping[str, Any]) -> Finding:
    """Separate a song on a device; check the stems' SI-SDR improvement and their sum.

    Args:
        device: name of the device.
        song: ``accompaniment`` and ``vocals`` (N). Weights with more sources are scored by their vocals, and by the sum
            of their other stems.
    """
    import torch

    from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
    from hourglass_sep.inference.separator import Separator
    from hourglass_sep.scoring.metrics import si_sdr

    remedy = REINSTALL if device == "cpu" else f"separate with -d cpu, or install a torch that suits this {device}"
    facts: dict[str, Any] = {"what": f"separation on {device}"}
    references = torch.stack([song["vocals"], song["accompaniment"]])
    mixture = references.sum(0)
    try:
        separator = Separator.from_pretrained().to(device)
        began = time.perf_counter()
        stems = separator.separate(mixture, SAMPLE_RATE_HZ)
        seconds = time.perf_counter() - began
        others = [stem for name, stem in stems.items() if name != "vocals"]
        estimates = torch.stack([stems["vocals"], torch.stack(others).sum(0)]).cpu()
        if not bool(estimates.isfinite().all()):
            raise ValueError("the stems hold NaN or infinite samples")
        gains = (si_sdr(references, estimates) - si_sdr(references, mixture.expand_as(references))).tolist()
        off = float((estimates.sum(0) - mixture).abs().max())
    except Exception as error:
        return finding("failed", device, reason(error), remedy=remedy, **facts)
    by_name = dict(zip(("vocals", "accompaniment"), gains, strict=True))
    facts |= {"seconds": round(seconds, 3), "real_time_factor": round(seconds / SELF_TEST_SECONDS, 4)}
    facts["gain_db"] = {name: round(gain, 2) if math.isfinite(gain) else None for name, gain in by_name.items()}
    facts["sum_error"] = off if math.isfinite(off) else None
    if not off <= SUM_TOLERANCE:
        return finding("failed", device, f"the stems add up to the song but for {off:.1g}", remedy=remedy, **facts)
    text = ", ".join(f"{name} {gain:+.1f} dB SI-SDR" for name, gain in by_name.items())
    if not all(gain >= LEAST_GAIN_DB for gain in gains):
        return finding("failed", device, f"{text}: it should be {LEAST_GAIN_DB:+g} or more", remedy=remedy, **facts)
    speed = f"{SELF_TEST_SECONDS:g} s of a song in {seconds:.2f} s ({seconds / SELF_TEST_SECONDS:.3f} x real time)"
    return finding("ok", device, f"{speed}: {text}; sum within {off:.0e}".replace("e-0", "e-"), **facts)
