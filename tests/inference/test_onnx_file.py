import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor

from hourglass_sep import Separator, export
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference import onnx_file
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.support.errors import UserError

FOUR = ("vocals", "drums", "bass", "other & more")


def weights(
    path: Path,
    stacks: int = 1,
    depth: int = 2,
    fold: int = 1,
    n_freq: int = 33,
    sources: Sequence[str] = ("accompaniment", "vocals"),
    channels: int = 1,
    stereo: str = "mid_side",
    **settings: Any,
) -> Path:
    torch.manual_seed(0)
    numbers: dict[str, Any] = {"sources": len(sources), "audio_channels": channels}
    network = StackedHourglass(stacks=stacks, channels=8, depth=depth, fold=fold, **numbers)
    for parameter in network.parameters():  # masks around 1, so that an absolute tolerance means something
        torch.nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3)
    stft = Spectrogram(n_fft=64, hop_length=16, n_freq=n_freq, channels=channels, stereo=stereo)
    separator = Separator(network, stft, sources=sources, **settings)
    separator.save_weights(path, {})
    return path


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def rebuilt(path: Path, waveform: Tensor) -> dict[str, Tensor]:
    """What the module's docstring says, from the file alone: (C, N) to a waveform of every source."""
    network = session(path)
    facts = network.get_modelmeta().custom_metadata_map
    n_fft, n_freq = int(facts["n_fft"]), int(facts["n_freq"])
    stft: dict[str, Any] = {"n_fft": n_fft, "hop_length": int(facts["hop_length"]), "window": torch.hann_window(n_fft)}
    names, n_channels = facts["sources"].split(","), int(facts["channels"])
    turned = n_channels == 2 and facts["stereo"] == "mid_side"
    coded = torch.stack([waveform[0] + waveform[1], waveform[0] - waveform[1]]) / 2 if turned else waveform
    spectrum = torch.stft(coded, **stft, pad_mode="constant", return_complex=True)
    magnitude = spectrum[:, :n_freq].abs()
    context, window, fade = 0, magnitude.shape[-1], 0
    if facts["window_frames"] != "None":
        context, window, fade = (int(facts[f"{name}_frames"]) for name in ("context", "window", "fade"))
    padded = torch.from_numpy(np.pad(magnitude.numpy(), ((0, 0), (0, 0), (context, window)), mode="reflect"))
    sums, weights = torch.zeros(len(names), *padded.shape), torch.zeros(padded.shape[-1])
    frames = torch.arange(window) - (context - fade) + 0.5
    ramp = (torch.minimum(frames, frames.flip(0)) / max(2 * fade, 0.5)).clamp(0, 1)
    for start in range(0, magnitude.shape[-1], window - 2 * context):
        part = padded[..., start : start + window]
        loudest = (part if facts["scale"] == "window" else magnitude).max().clamp_min(1e-4)
        (found,) = network.run(None, {"magnitude": (part / loudest)[None].numpy()})
        found = torch.from_numpy(found[0]).reshape(len(names), n_channels, n_freq, window)
        sums[..., start : start + window] += (found * ramp)[..., : sums.shape[-1] - start]
        weights[start : start + window] += ramp[: sums.shape[-1] - start]
    masks = (sums / weights)[..., context : context + magnitude.shape[-1]]
    if facts["masks"] == "sum_to_one":
        total = masks.sum(0)
        masks = torch.where(total <= 1e-8, 1 / len(masks), masks / total)
    masks = torch.cat([masks, masks[..., -1:, :].expand(-1, -1, n_fft // 2 + 1 - n_freq, -1)], 2)
    parts = torch.istft((masks * spectrum).flatten(0, 1), **stft, length=waveform.shape[-1])
    stems = parts.reshape(len(names), *waveform.shape)
    if turned:
        stems = torch.stack([stems[:, 0] + stems[:, 1], stems[:, 0] - stems[:, 1]], 1)
    return dict(zip(names, stems, strict=True))


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.run(["-o", str(tmp_path_factory.mktemp("default") / "made" / "masks.onnx")])


@pytest.mark.parametrize(
    "sizes", [None, (1, 3, 1, 33), (3, 1, 2, 31), (2, 4, 3, 32), (2, 2, 2, 31, FOUR, 2), (1, 2, 1, 33, FOUR[:1], 1)]
)
def test_masks_are_torchs_for_any_batch_and_number_of_frames(sizes: Any, default: Path, tmp_path: Path) -> None:
    name = "default" if sizes is None else str(weights(tmp_path / "mine.safetensors", *sizes))
    path = default if sizes is None else export.run(["-n", name, "-o", str(tmp_path / "mine.onnx")])
    separator = Separator.load(name)
    for n_batch, n_frames in ((1, 1), (3, 7), (1, 63), (2, 64), (1, 65), (1, 250)):
        n_channels, n_freq = separator.spectrogram.channels, separator.spectrogram.n_freq
        magnitude = torch.rand(n_batch, n_channels, n_freq, n_frames)
        (masks,) = session(path).run(["masks"], {"magnitude": magnitude.numpy()})
        with torch.inference_mode():
            expected = separator.network(magnitude)[-1].clamp_min(0).numpy()
        expected = expected[:, :, 0] if n_channels == 1 else expected
        assert expected.max() > 0.3
        np.testing.assert_allclose(masks, expected, rtol=0, atol=1e-4)


def test_it_is_one_small_file_that_names_its_axes_and_settings_and_no_folder_of_this_machine(default: Path) -> None:
    assert list(default.parent.iterdir()) == [default]
    assert default.stat().st_size < 6_000_000
    assert str(Path(export.__file__).parent).encode() not in default.read_bytes()
    onnx.checker.check_model(onnx.load(default), full_check=True)
    for side, name, channels in (("inputs", "magnitude", 1), ("outputs", "masks", 2)):
        (array,) = getattr(session(default), f"get_{side}")()
        assert (array.name, array.type, array.shape) == (name, "tensor(float)", ["batch", channels, 512, "time"])
    facts = session(default).get_modelmeta().custom_metadata_map
    assert " ".join(sorted("=".join(fact) for fact in facts.items())) == (
        "channels=1 context_frames=8 fade_frames=8 format=hourglass_sep_onnx/1 high_band=average hop_length=256 "
        "masks=sum_to_one n_fft=1024 n_freq=512 sample_rate_hz=8000 scale=window sources=accompaniment,vocals "
        "stereo=mid_side window_frames=64"
    )


def test_a_stereo_file_names_its_sources_and_has_an_axis_of_channels(tmp_path: Path) -> None:
    mine = str(weights(tmp_path / "mine.safetensors", sources=FOUR, channels=2, stereo="left_right"))
    path = export.run(["-n", mine, "-o", str(tmp_path / "mine.onnx")])
    onnx.checker.check_model(onnx.load(path), full_check=True)
    (magnitude,), (masks,) = session(path).get_inputs(), session(path).get_outputs()
    assert magnitude.shape == ["batch", 2, 33, "time"]
    assert masks.shape == ["batch", 4, 2, 33, "time"]
    facts = session(path).get_modelmeta().custom_metadata_map
    assert facts["sources"] == "vocals,drums,bass,other & more"
    assert (facts["channels"], facts["stereo"]) == ("2", "left_right")


def test_one_mask_for_both_channels_is_written_for_each_of_them(tmp_path: Path) -> None:
    """A network of another kind, without a channel axis, in a stereo separator."""

    class Mean(torch.nn.Conv2d):
        def forward(self, magnitude: Tensor) -> Tensor:
            return super().forward(magnitude)[None]

    separator = Separator(Mean(2, 3, 1), Spectrogram(n_fft=64, hop_length=16, channels=2, n_freq=33), sources=FOUR[:3])
    onnx_file.export(separator, tmp_path / "mine.onnx")
    magnitude = torch.rand(2, 2, 33, 7)
    (masks,) = session(tmp_path / "mine.onnx").run(["masks"], {"magnitude": magnitude.numpy()})
    assert masks.shape == (2, 3, 2, 33, 7)
    np.testing.assert_allclose(masks[:, :, 0], masks[:, :, 1])
    np.testing.assert_allclose(masks[:, :, 0], separator.network(magnitude)[0].detach().clamp_min(0), atol=1e-6)


def test_the_file_alone_separates_as_the_separator_does(default: Path, tmp_path: Path) -> None:
    odd = weights(tmp_path / "odd.safetensors", fold=3, window_frames=20, context_frames=3, fade_frames=2, masks="raw")
    whole = weights(tmp_path / "whole.safetensors", stacks=2, window_frames=None, scale="clip", n_freq=30)
    four = weights(tmp_path / "four.safetensors", sources=FOUR, channels=2, fold=2, window_frames=24)
    apart = weights(tmp_path / "apart.safetensors", sources=FOUR[1:], channels=2, stereo="left_right", scale="clip")
    cases = {default: Separator.from_pretrained()}
    for path in (odd, whole, four, apart):
        cases[export.run(["-n", str(path), "-o", str(path.with_suffix(".onnx"))])] = Separator.load(path)
    noise = 0.1 * torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0))
    noise[:, 12_000:] *= 1e-3  # scale by window and by clip differ
    noise[1] *= 0.3
    for file, separator in cases.items():
        song = noise[: separator.spectrogram.channels]
        stems = rebuilt(file, song)
        assert tuple(stems) == separator.sources
        for source, stem in separator.separate(song, 8000).items():
            assert float(stem.abs().max()) > 0.05
            torch.testing.assert_close(stems[source], stem, rtol=0, atol=1e-4)


def test_the_command_prints_the_path_and_how_the_check_went_and_replaces_nothing_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights(tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["export", "-n", "mine.safetensors"])
    export.main()
    out, err = capsys.readouterr()
    assert out == "mine.onnx\n"
    assert re.fullmatch(r"checked with onnxruntime: within \S+ of torch\n", err)
    Path("mine.onnx").write_text("precious")
    with pytest.raises(SystemExit, match="2"):
        export.main()
    assert capsys.readouterr().err.startswith("error: mine.onnx exists: replace it with --overwrite")
    assert Path("mine.onnx").read_text() == "precious"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export.run([*sys.argv[1:], "--overwrite"]).stat().st_size > 10_000
    assert capsys.readouterr().err == "not checked: onnxruntime is not installed\n"


@pytest.mark.parametrize("factor", [1.1, torch.nan])
def test_a_file_that_computes_something_else_is_not_left_behind(
    factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another, write = Separator.load(weights(tmp_path / "mine.safetensors")), onnx_file._write
    another.network.heads[0].weight.data.mul_(factor)  # type: ignore[index, union-attr]
    monkeypatch.setattr(onnx_file, "_write", lambda separator, path: write(another, path))
    with pytest.raises(UserError, match="off torch's"):
        export.run(["-n", str(tmp_path / "mine.safetensors"), "-o", str(tmp_path / "new" / "mine.onnx")])
    assert not (tmp_path / "new").exists()


def test_what_is_missing_and_where_no_file_can_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.onnx").mkdir()
    for name, words in {
        "folder": "does not end in .onnx",
        "file/x.onnx": "written",
        "folder.onnx": "is a folder",
    }.items():
        with pytest.raises(UserError, match=f"{name} .*{words}"):
            export.run(["-o", str(tmp_path / name), "--overwrite"])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"^onnx is not installed: pip install 'hourglass-sep\[onnx\]'$"):
        export.run(["-o", str(tmp_path / "mine.onnx")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.onnx"]
