"""Decoder by FFmpeg, which runs in a separate process: see ffmpeg_process/."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from hourglass_sep.audio.containers import id3_bytes, mp3_is_cut
from hourglass_sep.audio.decoder import TAGS, Decoder, Info, unreadable
from hourglass_sep.support.errors import AudioError

_SCRIPT = Path(__file__).with_name("ffmpeg_process")
_SECONDS_TO_END = 5
_FRAMED = ("aac", "dts", "mpegts")
"""FFmpeg's containers in which an undecodable last packet means truncation; elsewhere it may be junk."""
_SIZED = ("aac", "dts", "mpegts", "mov", "matroska", "avi", "asf", "flv", "nut", "mxf", "ogg")
"""FFmpeg's containers that give the size of each packet; in others a shorter last packet may be valid."""


class Process:
    """A decoding process; it decodes one file at a time.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # messages of FFmpeg and its libraries
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._waiting = False

    @property
    def usable(self) -> bool:
        """Whether the process is running and all its answers were read."""
        return not self._waiting and self._process.poll() is None

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        """Send a request to the process and wait for its answer.

        Args:
            request: a request of ``ffmpeg_process``.

        Returns:
            The answer, and the bytes that follow it.

        Raises:
            EOFError: the process has ended; the message is the signal or exit code.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._waiting = True  # stays True after Ctrl-C, so that the process is not reused
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
            data = bytearray(self._process.stdout.read(answer["bytes"]))
            if len(data) < answer["bytes"]:
                raise EOFError
        except (OSError, ValueError, EOFError) as error:
            raise EOFError(self._cause()) from error
        self._waiting = False
        return answer, data

    def _cause(self) -> str:
        try:
            code = self._process.wait(_SECONDS_TO_END)
            return signal.Signals(-code).name
        except subprocess.TimeoutExpired:
            return "no answer"
        except ValueError:  # not ended by a signal
            return f"exit code {code}"

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()
        self._process.wait()


_idle: list[Process] = []
_lock = Lock()


def _take() -> Process:
    with _lock:
        while _idle:
            process = _idle.pop()
            if process.usable:
                return process
            process.stop()
    return Process()


def _give_back(process: Process) -> None:
    with _lock:
        _idle.append(process)


@atexit.register
def _stop_all() -> None:
    while _idle:
        _idle.pop().stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # these processes belong to the parent


class Ffmpeg(Decoder):
    """Decoder by PyAV, which includes FFmpeg.

    Args:
        path: the file.
        stream: number of the audio stream, from 1; the default stream if None.

    Raises:
        AudioError: the file cannot be read as audio, or has no such stream; or see `Decoder`.
    """

    def __init__(self, path: Path, stream: int | None = None) -> None:
        self.path = path
        self._process: Process | None = None
        try:
            self._process = _take()
        except OSError as error:
            raise unreadable(path, error) from error
        facts, _ = self._ask({"open": str(path.absolute()), "stream": stream, "behind": id3_bytes(path)})
        self._facts = facts
        seconds = facts["seconds"]
        n_samples = None if seconds is None else round(seconds * facts["rate"])
        try:
            super().__init__(path, Info(n_samples, facts["rate"], facts["channels"], facts["depth"]))
        except AudioError:
            self.close()
            raise
        tags = {"tracknumber" if key == "track" else key: text for key, text in facts["tags"].items()}
        self.tags = {key: text for key, text in tags.items() if key in TAGS}
        names = facts["streams"]
        if stream is None and len(names) > 1:
            others = "; ".join(f"{k}: {name}" for k, name in enumerate(names, 1))
            self.notes.append(
                f"{path} has {len(names)} audio streams ({others}): took {facts['place']}, --stream chooses"
            )

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        """Send a request to the process, see `Process.ask`.

        Raises:
            AudioError: the process answered with an error, or has ended.
        """
        process = self._process
        assert process is not None
        try:
            answer, data = process.ask(request)
        except EOFError as error:
            self._process = None
            process.stop()
            raise AudioError(
                f"{self.path} cannot be read as audio (FFmpeg crashed: {error}): damaged, or no sound file"
            ) from None
        if "error" in answer:
            self.close()
            raise self._refusal(answer)
        return answer, data

    def _refusal(self, answer: dict[str, Any]) -> AudioError:
        text, path = answer["error"], self.path
        if text == "no sound in it":
            return AudioError(f"{path} has no sound in it: damaged, or a file without an audio track")
        if text == "no decoder":
            return AudioError(f"{path} holds sound that FFmpeg has no decoder for: convert it to wav or flac")
        if text == "no sound that can be decoded":
            return AudioError(f"{path} holds no sound that can be decoded: fetch or export it again")
        if text.startswith("no stream"):
            number, _, count = text.removeprefix("no stream ").partition(": ")
            return AudioError(f"{path} has no audio stream {number}: --stream can be 1 to {count}")
        return unreadable(path, ValueError(text))

    def _seek(self, sample: int) -> int:
        return 0  # seeking is inexact in most formats; decoding is a thousand times faster than real time

    def _read(self) -> Iterator[np.ndarray]:
        while True:
            answer, data = self._ask({"read": True})
            if not data:
                self._end = answer
                return
            yield np.frombuffer(data, np.float32).reshape(-1, self.info.channels)

    def _check_end(self, position: int) -> None:
        """See `Decoder`; adds notes on parts that may be missing."""
        facts, end, rate = self._facts, self._end, self.info.sample_rate_hz
        kind, expected, found = facts["format"], facts["seconds"], position / rate
        if kind == "matroska":
            found = max(found, end["seconds"])  # matroska's header gives the end time, not the length
        lacking = (expected or 0.0) - found
        short = lacking > max(0.5, 0.005 * found)
        exact = facts["exact"]
        if kind == "flac":  # many headers have a wrong total; a truncated file ends within a frame
            exact, short = end["undecoded"], lacking > 0
        elif kind == "mp3":
            exact = mp3_is_cut(self.path)
            short = lacking > 4 * 1152 / rate
        if exact and short:
            raise AudioError(
                f"{self.path} is truncated or damaged ({found:.2f} s of sound, its header says {expected:.2f} s): "
                "fetch or export it again"
            )
        if (end["corrupt"] and kind in _SIZED) or (end["undecoded"] and kind in _FRAMED):
            raise AudioError(f"{self.path} is truncated (its last packet is damaged): fetch or export it again")
        self._note_gaps(position / rate, lacking if facts["exact"] else 0.0)

    def _note_gaps(self, seconds: float, lacking: float) -> None:
        end = self._end
        for at, rate, channels in end["changes"][:1]:
            self.notes.append(
                f"{self.path} goes on at {at:.1f} s with {rate} Hz and {channels} channel(s): converted to "
                f"{self.info.sample_rate_hz} Hz and {self.info.channels}"
            )
        if end["left_out"]:
            self.notes.append(
                f"{self.path}: {end['left_out']} damaged packet(s) left out, {seconds:.2f} s could be decoded"
            )
        elif lacking > 0 and self._facts["format"] == "flac":
            self.notes.append(
                f"{self.path} has {seconds:.2f} s of sound, its header says {self._facts['seconds']:.2f} s"
            )

    def close(self) -> None:
        """See `Decoder`."""
        if self._process is None:
            return
        process, self._process = self._process, None
        try:
            if process.usable:
                process.ask({"close": True})
                _give_back(process)
            else:
                process.stop()
        except EOFError:
            process.stop()
