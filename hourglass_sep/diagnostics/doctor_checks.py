"""What `hourglass-sep doctor` tries out: sound formats, the shipped store, a separation.

Everything is imported where it is used: whatever is broken on a machine, the rest can still be told.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

DISTRIBUTION = "hourglass-sep"
REINSTALL = "install hourglass-sep again"
_NO_SNDFILE = "pip install --force-reinstall soundfile"
_NO_FFMPEG = "pip install --force-reinstall av"

SELF_TEST_SEED = 0
SELF_TEST_SECONDS = 4.0
SUM_TOLERANCE = 1e-5
LEAST_GAIN_DB = 6.0
"""Half of what the default weights gain on that song (11.7 and 12.0 dB). Over 24 such songs their median is 8.5 dB, and
one song gains nothing; networks that have learned nothing gain -0.8 to 0.3 dB."""

_TONE_RATE_HZ = 48_000  # one that every codec here has
_TONE_SECONDS = 0.5
_TONE_PEAK = 0.5
_TONES_HZ = (440, 1000)  # left and right
_READ_ONLY = {"m4a": "aac", "aac": "aac", "wma": "wmav2", "opus": "libopus", "webm": "libopus", "mp4": "aac"}
"""Suffix to FFmpeg's encoder of what is read and never written."""

_WITH_PICTURE = "mp4"

Row = dict[str, Any]


def row(
    status: str, label: str, text: str, what: str = "", remedy: str = "", optional: bool = False, **facts: object
) -> Row:
    """A finding, in plain types.

    Args:
        status: ``ok``, ``missing`` (not here, or not tried) or ``failed``.
        label: what it is about; findings of the same label and status are printed together.
        text: the finding.
        what: the name of what may not work, by default the label.
        remedy: what the user can do about it.
        optional: whether songs can be separated without it.
        facts: the same for programs.
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


def codecs() -> list[Row]:
    """Every format that is written, and some that are only read: written to a temporary folder and read back."""
    from hourglass_sep import audio

    rows = [row("ok", "libraries", _libraries())]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix, form in audio.FORMATS.items():
            for depth, subtype in form.subtypes.items():
                rows.append(_codec(folder, suffix, depth, _sndfile_writer(suffix, subtype)))
        for suffix, encoder in _READ_ONLY.items():
            rows.append(_codec(folder, suffix, "", _ffmpeg_writer(encoder, suffix == _WITH_PICTURE)))
    return rows


def _libraries() -> str:
    import soundfile

    text = f"soundfile {soundfile.__version__} (libsndfile {soundfile.__libsndfile_version__})"
    try:
        import av
    except ImportError:
        return f"{text}, no PyAV"
    return f"{text}, PyAV {av.__version__} (FFmpeg {av.ffmpeg_version_info})"


def _codec(folder: Path, suffix: str, depth: str, write: Callable[[Path], None]) -> Row:
    """Try a format. That we cannot write what we only ever read is no fault; then there is nothing to try it with."""
    ours, what = suffix not in _READ_ONLY, f"{suffix} {depth}".strip()
    remedy = _NO_SNDFILE if ours else _NO_FFMPEG
    path = folder / f"tones{depth}.{suffix}"
    facts: dict[str, Any] = {"what": what, "suffix": f".{suffix}", "depth": depth or None}
    facts |= {"readable": None, "writable": ours, "error": None}
    try:
        write(path)
        facts["readable"] = False
        _listen(path)
    except Exception as error:
        why = facts["error"] = reason(error).replace(f"{folder}{os.sep}", "")
        if facts["readable"] is None and not ours:
            return row("missing", "not tried", f"{what}: {why}", remedy=remedy, optional=True, **facts)
        label = "not written" if facts["readable"] is None else "not read"
        facts["writable"] = ours and label == "not read"
        return row("failed", label, f"{what}: {why}", remedy=remedy, **facts)
    return row("ok", "read, written" if ours else "read", what, **facts | {"readable": True})


def _tones() -> Any:
    """A tone on each channel, (C=2, N)."""
    import torch

    seconds = torch.arange(round(_TONE_SECONDS * _TONE_RATE_HZ), dtype=torch.float64) / _TONE_RATE_HZ
    return torch.stack([_TONE_PEAK * torch.sin(2 * torch.pi * hz * seconds) for hz in _TONES_HZ]).float()


def _listen(path: Path) -> None:
    """Raise ValueError for a file that is read as anything but `_tones`."""
    import torch

    from hourglass_sep import audio

    waveform, rate = audio.read(path)
    channels, n_samples = waveform.shape
    # Lossy codecs work in blocks, and delay: ends and phases are no evidence.
    if (rate, channels) != (_TONE_RATE_HZ, 2) or not 0.9 < n_samples / rate / _TONE_SECONDS < 1.5:
        raise ValueError(f"{n_samples} samples, {channels} channel(s), {rate} Hz are not what was written")
    middle = waveform[:, n_samples // 4 : n_samples * 3 // 4].double()
    seconds = torch.arange(middle.shape[-1]) / rate
    for channel, hz in zip(middle, _TONES_HZ, strict=True):
        peak = 2 * abs(complex((channel * torch.exp(-2j * torch.pi * hz * seconds)).mean()))
        if not abs(peak / _TONE_PEAK - 1) < 0.1:
            raise ValueError("what is read is not the sound that was written")


def _sndfile_writer(suffix: str, subtype: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        from hourglass_sep import audio

        with audio.opened([path], _TONE_RATE_HZ, len(_TONES_HZ), subtype, suffix) as (append,):
            append(_tones())

    return write


def _ffmpeg_writer(encoder: str, with_picture: bool) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import av

        with av.open(str(path), "w") as file:
            sound: Any = file.add_stream(encoder, rate=_TONE_RATE_HZ, layout="stereo", bit_rate=128_000)
            if with_picture:
                picture: Any = file.add_stream("mpeg4", rate=10)
                picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
                for _ in range(5):
                    file.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
                file.mux(picture.encode(None))
            context = sound.codec_context
            if not context.is_open:
                context.open()
            frame = av.AudioFrame.from_ndarray(_tones().numpy(), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = _TONE_RATE_HZ, 0, Fraction(1, _TONE_RATE_HZ)
            cut = av.AudioResampler(context.format.name, "stereo", _TONE_RATE_HZ, context.frame_size or 1024)
            for part in [*cut.resample(frame), *cut.resample(None), None]:
                file.mux(sound.encode(part))

    return write


def shipped_weights() -> list[Row]:
    """Every file of weights: whether it is the one that was installed, loads and is finite."""
    from hourglass_sep.checkpoints import store

    rows = [_weights(path) for path in sorted(store.WEIGHTS_DIR.glob("*.safetensors"))]
    if not any(found["label"] == "default" for found in rows):
        text = f"no default.safetensors in {store.WEIGHTS_DIR}"
        rows.append(row("missing", "default", text, what="default weights", remedy=REINSTALL))
    return rows


def _weights(path: Path) -> Row:
    from hourglass_sep.inference.separator import Separator
    from hourglass_sep.signal.stems import SOURCES

    facts: dict[str, Any] = {"what": f"{path.stem} weights", "path": str(path)}
    try:
        content = path.read_bytes()
        facts |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if _recorded(path) not in (None, facts["sha256"]):
            raise ValueError(f"{path} is not the file that was installed")
        separator = Separator.from_pretrained(path.stem)
        scores = json.loads(path.with_suffix(".json").read_text()).get("test_scores_db", {})
        facts["gnsdr_db"] = {name: scores.get(name, {}).get("gnsdr") for name in SOURCES}
    except Exception as error:
        return row("failed", path.stem, reason(error), remedy=REINSTALL, **facts)
    facts["parameters"] = sum(value.numel() for value in separator.network.parameters())
    known = ", ".join(f"{name} {db} dB" for name, db in facts["gnsdr_db"].items() if db is not None)
    text = f"{facts['parameters']:,} parameters, {len(content) / 1e6:.1f} MB, sha256 {facts['sha256'][:16]}"
    return row("ok", path.stem, f"{text}; GNSDR {known or 'not on its card'}", **facts)


def _recorded(path: Path) -> str | None:
    """The sha256 that pip wrote down when it installed a file; None in a checkout, which has no such record."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == path.name and file.hash and Path(str(file.locate())).resolve() == path.resolve():
            return base64.urlsafe_b64decode(file.hash.value + "=").hex()
    return None


def self_test() -> list[Row]:
    """Separate a synthetic song by the default weights on every device."""
    from hourglass_sep.data.synthetic.synthesis import synthesize_song
    from hourglass_sep.support.devices import found

    sources = synthesize_song(SELF_TEST_SEED, SELF_TEST_SECONDS)
    return [_separate(name, sources) for name in found()]


def _separate(device: str, sources: Any) -> Row:
    import torch

    from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
    from hourglass_sep.inference.separator import Separator
    from hourglass_sep.scoring.metrics import si_sdr
    from hourglass_sep.signal.stems import SOURCES

    remedy = REINSTALL if device == "cpu" else f"separate with -d cpu, or install a torch that suits this {device}"
    facts: dict[str, Any] = {"what": f"separation on {device}"}
    mixture = sources.sum(0)
    try:
        separator = Separator.from_pretrained().to(device)
        began = time.perf_counter()
        stems = separator.separate(mixture, SAMPLE_RATE_HZ)
        seconds = time.perf_counter() - began
        estimates = torch.stack([stems[name] for name in SOURCES]).cpu()
        if not bool(estimates.isfinite().all()):
            raise ValueError("the stems hold NaN or infinite samples")
        gains = (si_sdr(sources, estimates) - si_sdr(sources, mixture.expand_as(sources))).tolist()
        off = float((estimates.sum(0) - mixture).abs().max())
    except Exception as error:
        return row("failed", device, reason(error), remedy=remedy, **facts)
    facts |= {"seconds": round(seconds, 3), "real_time_factor": round(seconds / SELF_TEST_SECONDS, 4)}
    facts["gain_db"] = {name: round(g, 2) if math.isfinite(g) else None for name, g in zip(SOURCES, gains, strict=True)}
    facts["sum_error"] = off if math.isfinite(off) else None
    if not off <= SUM_TOLERANCE:
        return row("failed", device, f"the stems add up to the song but for {off:.1g}", remedy=remedy, **facts)
    text = ", ".join(f"{name} {gain:+.1f} dB SI-SDR" for name, gain in zip(SOURCES, gains, strict=True))
    if not all(gain >= LEAST_GAIN_DB for gain in gains):
        return row("failed", device, f"{text}: it should be {LEAST_GAIN_DB:+g} or more", remedy=remedy, **facts)
    speed = f"{SELF_TEST_SECONDS:g} s of a song in {seconds:.2f} s ({seconds / SELF_TEST_SECONDS:.3f} x real time)"
    return row("ok", device, f"{speed}: {text}; sum within {off:.0e}".replace("e-0", "e-"), **facts)
