"""Files that nobody should trust: a line each, refused in one line before memory is taken."""

from __future__ import annotations

import copy
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from hourglass_sep import audio, export
from hourglass_sep.checkpoints.store import KEY
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.scoring.evaluation import evaluate
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.songs.separate_song import separate_file
from hourglass_sep.support.errors import CheckpointError, NotFiniteError
from hourglass_sep.training.resuming import read_resumable
from tests.helpers.clips import mir1k_clips

HUGE = 10**9
PREFIX = "separator.network."


def card(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    """Change settings of a description: ``audio__n_fft=3``; ``model`` is the network's arguments in both formats."""

    def change(description: dict[str, Any]) -> Any:
        for key, value in changes.items():
            part, _, name = key.partition("__")
            inside = description["network"] if part == "model" and "network" in description else description
            part = "arguments" if inside is not description else part
            if name:
                inside[part][name] = value
            else:
                inside[part] = value
        return description

    return change


def former(description: dict[str, Any]) -> dict[str, Any]:
    """A description in the format of earlier versions, as in tests/records/old/card_v1.json."""
    model = {key: value for key, value in description["network"]["arguments"].items() if key != "audio_channels"}
    audio = {key: value for key, value in description["audio"].items() if key not in ("channels", "stereo")}
    return {"format": "hourglass_sep/1", "model": model, "audio": audio, "inference": description["inference"]}


CARDS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    **{
        f"{part}.{name} of a thousand million": (
            card(**{f"{part}__{name}": HUGE}),
            rf"{part.replace('model', 'network')}\.{name}=1000000000, \d+",
        )
        for part, names in {
            "model": ("stacks", "channels", "depth", "sources", "fold"),
            "audio": ("sample_rate_hz", "n_fft", "hop_length", "n_freq"),
            "inference": ("window_frames", "context_frames", "fade_frames"),
        }.items()
        for name in names
    },
    "a size with a point": (card(model__stacks=2.0), r"network\.stacks=2\.0"),
    "a size that is true": (card(model__stacks=True), r"network\.stacks=True"),
    "a size in words": (card(model__stacks="2"), r"network\.stacks='2'"),
    "no number": (card(model__stacks=float("nan")), r"network\.stacks=nan"),
    "a list of settings": (card(model=[1, 2]), "does not say its network"),
    "nothing": (card(audio=None), "does not say its audio"),
    "a setting that is a list": (card(inference__masks=["raw"]), r"inference\.masks=\['raw'\]"),
    "an unknown setting": (card(model__colour=3), "does not describe a network of this version"),
    "frames that hardly move": (card(audio__hop_length=1), r"audio\.hop_length=1, at least 16 can be"),
    "another network": (card(model__channels=8), "expected"),
    "more stacks": (card(model__stacks=3), "lacks"),
    "fewer stacks": (card(model__stacks=1), "which the network has not"),
    "a list": (lambda description: [description], "of something else"),
    "a number": (lambda description: 3, "of something else"),
    "a name that does not exist": (card(inference__masks="zzz"), r"inference\.masks='zzz' is not allowed"),
    "what no card says": (card(inference__batch_windows=HUGE), r"inference\.batch_windows=1000000000, which is no"),
    "endless segments": (card(inference__segment_seconds=1e18), "which is no setting"),
    "three sources": (card(model__sources=3), r"network\.sources=3 for 2 names of sources"),
    "a hop without its window": (card(audio={"hop_length": 1}), r"audio\.hop_length=1, at least 16 can be"),
    "frames by the million": (card(audio={"sample_rate_hz": 768_000, "n_fft": 64, "hop_length": 1, "n_freq": 32}),
                              "too little with audio.n_fft=64 at 768000 Hz"),
    "windows that hardly move": (card(inference__window_frames=16384, inference__context_frames=8191),
                                 "leaves 2 of 16384 frames"),
    "windows too large for memory": (card(inference__window_frames=16384, audio__n_fft=65536, audio__n_freq=32768,
                                          audio__hop_length=1024), "too much for its network"),
    "channels that the audio has not": (card(model__audio_channels=2),
                                        r"network\.audio_channels=2 for audio\.channels=1"),
    "three channels": (card(audio__channels=3), r"audio\.channels=3, 1 to 2 can be"),
    "another kind of stereo": (card(audio__stereo="wide"), r"audio\.stereo='wide' is not allowed"),
}  # fmt: skip
"""Damages of a description in both formats."""

PRESENT: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no network": (card(network=None), "does not say its network"),
    "a network without a class": (card(network={"arguments": {}}), "does not say its network"),
    "a class that is a number": (card(network___target_=3), "does not say its network"),
    "arguments that are none": (card(network__arguments=None), "does not say its network"),
    "no arguments": (card(network__arguments={}), "expected|lacks|has not"),
    "no sources": (card(sources=None), "does not say its sources"),
    "no names of sources": (card(sources=[]), "says sources that cannot be"),
    "sources that are one name": (card(sources="vocals"), "does not say its sources"),
    "sources that are numbers": (card(sources=[1, 2]), "does not say its sources"),
    "sources that are sums": (card(sources=["vocals", "rest=bass+drums"]), "does not say its sources"),
    "a source twice": (card(sources=["vocals", "vocals"]), "says sources that cannot be .*vocals twice"),
    "a source that is a path": (card(sources=["vocals", "../../bass"]), "says sources that cannot be"),
    "a source that is a command": (card(sources=["vocals", "\x1b[2J\n"]), "says sources that cannot be"),
    "the mixture as a source": (card(sources=["vocals", "mixture"]), "says sources that cannot be"),
    "three names for two": (card(sources=["a", "b", "c"]), r"network\.sources=2 for 3 names of sources"),
    "a thousand names": (card(sources=[f"s{n}" for n in range(1000)]), "1000 names: 64 can be"),
    "facts that are words": (card(facts="good"), "has facts that are none"),
    "a former format with new content": (card(format="hourglass_sep/1"), "does not say its network"),
}
"""Damages of what the former format does not have."""


def written(separator: Separator, description: Any, path: Path) -> Path:
    """A checkpoint of a separator with another description than its own."""
    if path.suffix == ".ckpt":
        state = {PREFIX + name: value for name, value in separator.network.state_dict().items()}
        torch.save({KEY: description, "state_dict": state}, path)
    else:
        separator.save_weights(path, {})
        path.with_suffix(".json").write_text(json.dumps(description))
    return path


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
@pytest.mark.parametrize(
    ("version", "kind"), [*((version, kind) for version in (1, 2) for kind in CARDS), *((2, kind) for kind in PRESENT)]
)
def test_a_card_that_is_no_separators_is_refused_before_memory_is_taken(
    version: int, kind: str, suffix: str, tiny_separator: Separator, tmp_path: Path
) -> None:
    change, words = (CARDS | PRESENT)[kind]
    description = copy.deepcopy(tiny_separator.description)
    refused(
        written(tiny_separator, change(description if version == 2 else former(description)), tmp_path / f"a.{suffix}"),
        words,
    )


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_a_former_description_is_read_as_the_present_one(
    suffix: str, tiny_separator: Separator, tmp_path: Path
) -> None:
    """Otherwise the damaged ones above would say nothing."""
    mine = tiny_separator.description
    path = written(tiny_separator, former(mine), tmp_path / f"a.{suffix}")
    assert Separator.from_checkpoint(path).description == mine


def test_masks_of_many_sources_that_are_too_large_for_memory_are_refused(tmp_path: Path) -> None:
    """Few weights, but 2^30 numbers a window."""
    network = StackedHourglass(stacks=1, channels=4, depth=1, sources=64, audio_channels=2)
    names = [f"s{number}" for number in range(64)]
    for window, words in ((64, ""), (16384, r"window_frames=16384, too much for its network and audio\.n_freq")):
        separator = Separator(network, Spectrogram(channels=2), window_frames=window, sources=names)
        separator.save_weights(tmp_path / "a.safetensors", {})
        if words:
            refused(tmp_path / "a.safetensors", words)
        else:
            assert Separator.from_checkpoint(tmp_path / "a.safetensors").sources == tuple(names)


def refused(path: Path, words: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=words) as caught:
            Separator.from_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def expanded(value: torch.Tensor) -> torch.Tensor:
    return torch.zeros(1).expand(value.shape)


TENSORS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "expanded": (expanded, "more numbers than there are"),
    "enormous": (lambda value: torch.zeros(1).expand(HUGE, HUGE), "expected"),
    "sparse": (lambda value: torch.zeros_like(value).to_sparse(), "in a form that no training writes"),
    "whole numbers": (lambda value: torch.zeros_like(value, dtype=torch.int64), "in a form"),
    "complex": (lambda value: torch.zeros_like(value, dtype=torch.complex64), "in a form"),
    "without numbers": (
        lambda value: torch.zeros_like(value, device="meta"),
        "in a form|cannot be read|torch can read",
    ),
    "a list": (lambda value: value.tolist(), "no tensor"),
    "NaN": (lambda value: value * float("nan"), "its training diverged"),
    "of another shape": (lambda value: value[:1], "expected"),
    "of eight bits": (lambda value: value.to(torch.float8_e4m3fn), "in a form"),
    "of half a byte": (lambda value: torch.zeros(value.shape, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "in a"),
    "beyond single precision": (lambda value: value.double() + 1e300, "its training diverged"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_weights_that_are_none_are_refused(kind: str, tiny_separator: Separator, tmp_path: Path) -> None:
    change, words = TENSORS[kind]
    state = {PREFIX + name: value for name, value in tiny_separator.network.state_dict().items()}
    name = f"{PREFIX}stem.1.0.weight"
    torch.save(
        {KEY: tiny_separator.description, "state_dict": state | {name: change(state[name])}}, tmp_path / "a.ckpt"
    )
    refused(tmp_path / "a.ckpt", words)


def test_weights_that_share_their_numbers_are_refused(tiny_separator: Separator, tmp_path: Path) -> None:
    """Small files would become networks of any size."""
    wanted = tiny_separator.network.state_dict()
    numbers = torch.zeros(max(value.numel() for value in wanted.values()))
    state = {PREFIX + name: numbers[: value.numel()].view(value.shape) for name, value in wanted.items()}
    torch.save({KEY: tiny_separator.description, "state_dict": state}, tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt", "share their numbers")


def test_only_the_networks_weights_of_a_checkpoint_are_read(tiny_separator: Separator, tmp_path: Path) -> None:
    state = {PREFIX + name: value for name, value in tiny_separator.network.state_dict().items()}
    content = {KEY: tiny_separator.description, "state_dict": state, "optimizer_states": torch.zeros(50_000_000)}
    torch.save(content, tmp_path / "a.ckpt")
    del content
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_bytes()
    Separator.from_checkpoint(tmp_path / "a.ckpt")
    assert peak_bytes() - before < 100e6


def peak_bytes() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def ckpt(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def packed(path: Path) -> None:
    """A hundred million zeros in a small archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000_000))


def half(path: Path) -> None:
    torch.save({"a": torch.zeros(99)}, path)
    os.truncate(path, 300)


def pickled(data: bytes) -> Callable[[Path], None]:
    """An archive as torch writes it, around any pickle."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in {"data.pkl": data, "version": b"3", "byteorder": b"little"}.items():
                archive.writestr(f"archive/{name}", content)

    return make


def many(path: Path) -> None:
    """An archive of nothing but names: each takes more memory when it is read than in the file."""
    torch.save({}, path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(2200):
            archive.writestr(f"{number:02000}", b"")


ARCHIVES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "packed": (packed, "it is packed"),
    "empty": (lambda path: path.touch(), "torch can read"),
    "text": (lambda path: path.write_text("weights"), "torch can read"),
    "whole numbers as keys": (ckpt({1: 2, KEY: {}, "state_dict": {1: torch.zeros(1)}}), "no weights by name"),
    "a list of weights": (ckpt({KEY: {}, "state_dict": [1]}), "no weights by name"),
    "a list": (ckpt([1, 2]), "of something else"),
    "half": (half, "torch can read"),
    "millions of lists": (pickled(b"\x80\x02(" + b"]" * 600_000 + b"l."), "it is packed"),
    "a size for bytes": (pickled(b"\x80\x02cbuiltins\nbytearray\nI9999999999\n\x85R."), "it is packed"),
    "a command": (pickled(b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R."), "torch can read"),
    "a directory of many files": (many, "it is packed"),
    "no pickle": (pickled(b"\xff" * 99), "torch can read"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_file_that_is_no_checkpoint_is_refused(kind: str, tmp_path: Path) -> None:
    make, words = ARCHIVES[kind]
    make(tmp_path / "a.ckpt")
    refused(tmp_path / "a.ckpt", words)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "", "nul", "9" * 5000, '{"format": NaN}', "\ufeff{}", " " * (1 << 24) + "{}"],
)
def test_a_card_that_is_no_json_is_refused(text: str, tiny_separator: Separator, tmp_path: Path) -> None:
    tiny_separator.save_weights(tmp_path / "a.safetensors", {})
    (tmp_path / "a.json").write_text(text)
    refused(tmp_path / "a.safetensors", "damaged|of something else")


SIZES = b'{"a":{"dtype":"F32","shape":[18446744073709551615,0],"data_offsets":[0,0]}}'


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xff" * 8 + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        b"\0" * 8,
        len(SIZES).to_bytes(8, "little") + SIZES,
        (1 << 25).to_bytes(8, "little") + b" " * (1 << 25),
    ],
)
def test_a_safetensors_file_that_is_none_is_refused(header: bytes, tiny_separator: Separator, tmp_path: Path) -> None:
    tiny_separator.save_weights(tmp_path / "a.safetensors", {})
    (tmp_path / "a.safetensors").write_bytes(header)
    refused(tmp_path / "a.safetensors", "damaged|lacks")


@pytest.mark.parametrize(
    "content", [{}, {"global_step": "3"}, {"optimizer_states": []}, {"optimizer_states": [{"param_groups": [{}]}]}]
)
def test_a_checkpoint_that_does_not_say_how_far_it_is_is_not_resumed(
    content: dict[str, Any], tiny_separator: Separator, tmp_path: Path
) -> None:
    state = {PREFIX + name: value for name, value in tiny_separator.network.state_dict().items()}
    torch.save({KEY: tiny_separator.description, "state_dict": state, **content}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"a\.ckpt "):
        read_resumable(str(tmp_path / "a.ckpt"), tiny_separator, 9)


def test_weights_that_overflow_leave_no_stems(tiny_separator: Separator, tmp_path: Path) -> None:
    with torch.no_grad():
        for value in tiny_separator.network.parameters():
            value.fill_(1e15)
    song = 0.1 * torch.randn(2, 20000, generator=torch.Generator().manual_seed(0))
    audio.write(tmp_path / "song.wav", song, 8000)
    with pytest.raises(NotFiniteError, match=r"song\.wav is not separated: the stems hold NaN or infinite samples"):
        separate_file(tiny_separator, tmp_path / "song.wav", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]
    with pytest.raises(ValueError, match="infinite samples"):
        tiny_separator.separate(song, 8000)
    with pytest.raises(NotFiniteError, match="infinite samples"):
        list(tiny_separator.stream([song], 8000))
    save_weights_of_single_precision(tiny_separator, tmp_path / "a.ckpt")
    with pytest.raises(NotFiniteError, match=r"a\.ckpt overflow"):
        Separator.from_checkpoint(tmp_path / "a.ckpt").separate(song, 8000)
    with pytest.raises(NotFiniteError, match=r"a\.ckpt overflow"):
        export.run(["-n", str(tmp_path / "a.ckpt"), "-o", str(tmp_path / "a.onnx")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "song.wav"]


def save_weights_of_single_precision(separator: Separator, path: Path) -> None:
    state = {PREFIX + name: value for name, value in separator.network.state_dict().items()}
    torch.save({KEY: separator.description, "state_dict": state}, path)


def test_weights_that_overflow_are_no_poor_score(tiny_separator: Separator, tiny_mir1k: Path) -> None:
    with torch.no_grad():
        for value in tiny_separator.network.parameters():
            value.fill_(1e15)
    clip = mir1k_clips(tiny_mir1k)[0]
    with pytest.raises(NotFiniteError, match=f"{clip.name} is not scored: .* the weights overflow"):
        evaluate(tiny_separator, clip, load_protocol("si_sdr"), {})


def test_a_safetensors_file_of_weights_reads_as_it_was_written(tiny_separator: Separator, tmp_path: Path) -> None:
    tiny_separator.save_weights(tmp_path / "a.safetensors", {"facts": {"anything": [1, {"a": None}]}})
    again = Separator.from_checkpoint(tmp_path / "a.safetensors").network.state_dict()
    for name, value in safetensors.torch.load_file(tmp_path / "a.safetensors").items():
        assert torch.equal(again[name], value.float())
