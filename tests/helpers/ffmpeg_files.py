"""Audio files like those of users, encoded for tests by the installed ffmpeg; its decoder is the reference."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg here: apt-get install ffmpeg")

MP3 = ("-c:a", "libmp3lame", "-id3v2_version", "0", "-map_metadata", "-1")
PICTURE = ("-f", "lavfi", "-i", "color=s=64x64:d=4:r=5", "-map", "0:a", "-map", "1:v")


def song(seconds: float = 2.0, rate: int = 44100, channels: int = 2) -> np.ndarray:
    """Test signal (N, C), float32: a different tone of varying loudness in each channel, with a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * 170 * (c + 1) * time) * np.sin(np.pi * time / (c + 2)) for c in range(channels)]
    noise = 0.02 * np.random.default_rng(0).standard_normal((len(time), channels))
    return (0.2 * np.stack(tones, 1) + noise).astype(np.float32)


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


def make(path: Path, *options: str, seconds: float = 2.0, rate: int = 44100, channels: int = 2) -> Path:
    """Encode the test signal with ffmpeg's ``options``; otherwise ffmpeg chooses formats by the suffix of ``path``."""
    source = path.with_name(f"source_{path.stem}.wav")
    kind = "WAVEX" if channels > 2 else "WAV"
    soundfile.write(source, song(seconds, rate, channels), rate, format=kind)
    ffmpeg("-i", source, *options, "-strict", "-2", path)
    return path


def decode(path: Path) -> np.ndarray:
    """Decode the first audio stream of a file with ffmpeg: samples (C, N), float32."""
    shown = ["-select_streams", "a:0", "-show_entries", "stream=channels", "-of", "json"]
    probe = subprocess.run(["ffprobe", "-v", "error", *shown, str(path)], capture_output=True, check=True)
    channels = json.loads(probe.stdout)["streams"][0]["channels"]
    raw = subprocess.run(["ffmpeg", "-v", "quiet", "-i", str(path), "-f", "f32le", "-"], capture_output=True)
    return np.frombuffer(raw.stdout, np.float32).reshape(-1, channels).T


def id3v2(n_bytes: int) -> bytes:
    """An ID3v2.3 tag of ``n_bytes`` zero bytes, to be placed before the audio."""
    return b"ID3\3\0\0" + bytes(n_bytes >> shift & 127 for shift in (21, 14, 7, 0)) + bytes(n_bytes)


def id3v1() -> bytes:
    return b"TAG" + b"title".ljust(125, b"\0")


def ape(n_bytes: int) -> bytes:
    """An APEv2 tag with a title of ``n_bytes`` bytes, to be placed after the audio."""

    def end(flags: int) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII", 2000, n_bytes + 46, 1, flags) + bytes(8)

    return end(0xA0000000) + struct.pack("<II", n_bytes, 0) + b"Title\0" + b"a" * n_bytes + end(0x80000000)


def xing(path: Path, factor: float) -> Path:
    """Multiply the number of frames in the Xing or Info header of an MP3 file by ``factor``."""
    data = path.read_bytes()
    place = max(data.find(b"Xing"), data.find(b"Info")) + 8
    frames = round(factor * int.from_bytes(data[place : place + 4], "big"))
    path.write_bytes(data[:place] + frames.to_bytes(4, "big") + data[place + 4 :])
    return path


def around(path: Path, before: bytes = b"", inside: bytes = b"", behind: bytes = b"") -> Path:
    data = path.read_bytes()
    path.write_bytes(before + data[: len(data) // 2] + inside + data[len(data) // 2 :] + behind)
    return path


def cut(path: Path, part: float = 0.5) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: round(part * len(data))])
    return path


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def flac_says(path: Path, samples: int) -> Path:
    """Set the number of samples in the STREAMINFO block of a FLAC file."""
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([(data[21] & 0xF0) | samples >> 32]) + (samples & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def skips(path: Path, samples: int) -> Path:
    """Set the start, in samples, of the edit list of an M4A file; its duration is unchanged."""
    data = path.read_bytes()
    place = data.index(b"elst") + 16
    path.write_bytes(data[:place] + struct.pack(">i", samples) + data[place + 4 :])
    return path


def mkv_lasts(path: Path, duration: bytes) -> Path:
    """Replace the value of the duration tag in a Matroska file; at most 18 bytes."""
    data = path.read_bytes()
    place = data.index(b"00:00:02.0")
    path.write_bytes(data[:place] + duration.ljust(18, b"0") + data[place + 18 :])
    return path


def vbri(path: Path) -> Path:
    """Replace the LAME header of an MP3 file by a VBRI header, as Fraunhofer's encoder writes it."""
    data = bytearray(path.read_bytes())
    frames = (len(data) // 417) - 1
    header = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, len(data), frames, 1, 1, 2, 1) + bytes(2)
    data[4:417] = bytes(413)
    data[36 : 36 + len(header)] = header
    path.write_bytes(data)
    return path
