"""The mask network as an ONNX file.

One input, ``magnitude`` (B, 1, F, T) float32, and one output, ``masks`` (B, S, F, T): those of the last stack, clamped
at 0. Any B and T. The metadata says how the weights want to be used: F is its ``n_freq``, S in the order of its
``sources``. With it, separating a mono waveform at ``sample_rate_hz`` takes

1. an STFT: a periodic Hann window of ``n_fft`` samples, frame k centred on sample k * ``hop_length``, zeros beyond the
   ends; of its magnitude the lowest ``n_freq`` bins;
2. windows of ``window_frames``, one every ``window_frames`` - 2 * ``context_frames``, the first one starting
   ``context_frames`` before frame 0; the song is mirrored at both ends, numpy's
   ``reflect`` (``None``: one window, the whole song, no context);
3. each window divided by its maximum, floored at 1e-4 (scale ``clip``: by the whole song's maximum);
4. the network; of its masks, drop ``context_frames`` - ``fade_frames`` at both ends of each window, and weigh the rest:
   weights rise from 0 to 1 in the first 2 * ``fade_frames`` frames, (k + 1/2) / (2 * ``fade_frames``) in frame k, and
   fall in the last; add up where windows overlap, and divide by the sum of the weights;
5. masks divided by their sum over the sources, equal parts where it is 1e-8 or less (masks ``raw``: left as they are);
6. the complex spectrum times the masks, bins from ``n_freq`` on times the mask of the one below them; inverse STFT.

`hourglass_sep.inference.separator` has the rest: other rates, more channels, songs of over a minute (in segments).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.inference.bands import refuse_not_finite
from hourglass_sep.inference.separator import Separator
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.files import replacing, writing

TOLERANCE = 1e-4
"""The most that onnxruntime's masks may differ from torch's. Single frames do where more than 5000 go in at a time:
nearest-neighbour upsampling to large odd sizes rounds differently."""


class LastMasks(nn.Module):
    """What is exported: a network's last masks, clamped at 0."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, magnitude: Tensor) -> Tensor:
        """(B, 1, F, T) to (B, S, F, T)."""
        return self.network(magnitude)[-1].clamp_min(0)


def _write(separator: Separator, path: Path) -> None:
    """Write a separator's network, and what else it needs as metadata, to one file.

    Raises:
        UserError: onnx is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise UserError("onnx is not installed: pip install 'hourglass-sep[onnx]'") from None
    n_freq = separator.spectrogram.n_freq
    axes = {name: {0: "batch", 3: "time"} for name in ("magnitude", "masks")}
    names: dict[str, Any] = {"input_names": ["magnitude"], "output_names": ["masks"], "dynamic_axes": axes}
    with warnings.catch_warnings(action="ignore"):
        # Either exporter is right at all sizes. The newer one (dynamo) takes ten times as long, needs onnxscript and
        # leaves the paths of this machine's source files in the file. Opset 13: old enough for any runtime.
        network = LastMasks(separator.network).eval()
        torch.onnx.export(network, (torch.zeros(2, 1, n_freq, 9),), path, dynamo=False, opset_version=13, **names)
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = n_freq  # the tracer lost it
    model.doc_string = __doc__ or ""
    facts = {"format": "hourglass_sep_onnx/1", "sources": ",".join(SOURCES)}
    facts |= {key: str(value) for key, value in (separator.spectrogram.config | separator.settings).items()}
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, path)


def _check(separator: Separator, path: Path) -> str:
    """Compare the file's masks with torch's, on noise of another size than the traced one, and say how that went.

    Raises:
        UserError: they differ by more than `TOLERANCE`.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError:
        return "not checked: onnxruntime is not installed"
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    magnitude = _noise(separator.spectrogram.n_freq)
    (masks,) = session.run(None, {"magnitude": magnitude.numpy()})
    with torch.inference_mode():
        error = float((LastMasks(separator.network)(magnitude) - torch.from_numpy(masks)).abs().max())
    if not error <= TOLERANCE:  # NaN is no success
        raise UserError(f"onnxruntime's masks are {error:.1g} off torch's: try other versions of onnx and onnxruntime")
    return f"checked with onnxruntime: within {error:.0e} of torch".replace("e-0", "e-")


def _noise(n_freq: int) -> Tensor:
    return torch.rand(3, 1, n_freq, 61, generator=torch.Generator().manual_seed(0))


def export(separator: Separator, path: Path, overwrite: bool = False) -> str:
    """Write a separator's network to a file, and compare the file with it.

    Args:
        separator: whose network.
        path: the file.
        overwrite: replace it if it exists.

    Returns:
        How the comparison went, in words.

    Raises:
        UserError: the file cannot be written, or is wrong; nothing new is left there.
        NotFiniteError: the weights overflow.
    """
    with torch.inference_mode():
        refuse_not_finite(LastMasks(separator.network)(_noise(separator.spectrogram.n_freq)), separator.origin)
    with replacing([path], overwrite) as (part,):
        with writing(path):
            _write(separator, part)
        return _check(separator, part)
