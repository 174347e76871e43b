import importlib.util
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal

from hourglass_sep import metrics
from hourglass_sep.data.mir1k import find_clips
from hourglass_sep.metrics import BssEval, bss_eval_sources, global_score, nsdr, si_sdr

TOLERANCE_DB = 1e-6
MUSEVAL = importlib.util.find_spec("museval")
assert MUSEVAL is not None
assert MUSEVAL.origin is not None
# Its metrics module by itself: importing the whole package looks for FFmpeg, which is not needed here.
museval_bss_eval = runpy.run_path(str(Path(MUSEVAL.origin).with_name("metrics.py")))["bss_eval"]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def musevals(references: torch.Tensor, estimates: torch.Tensor) -> tuple[np.ndarray, ...]:
    """SDR, SIR, SAR (S,) of BSS Eval v3 'sources' over the whole signal."""
    sdr, _, sir, sar, _ = museval_bss_eval(
        references.double().numpy()[..., None],
        estimates.double().numpy()[..., None],
        window=np.inf,
        hop=np.inf,
        compute_permutation=False,
        filters_len=512,
        framewise_filters=False,
        bsseval_sources_version=True,
    )
    return sdr[:, 0], sir[:, 0], sar[:, 0]


def assert_agree(references: torch.Tensor, estimates: torch.Tensor) -> None:
    for ours, theirs in zip(bss_eval_sources(references, estimates), musevals(references, estimates), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=TOLERANCE_DB, rtol=0)


@pytest.mark.parametrize(("n_sources", "n_samples"), [(1, 1024), (2, 1024), (2, 9001), (3, 5000), (4, 5000)])
def test_bss_eval_agrees_with_museval_on_noise(n_sources: int, n_samples: int) -> None:
    references = noise(n_sources, n_samples)
    leak = noise(n_sources, n_sources, seed=1) * 0.3
    assert_agree(references, references + leak @ references + 0.2 * noise(n_sources, n_samples, seed=2))


def test_bss_eval_agrees_with_museval_on_correlated_filtered_and_clipped_signals() -> None:
    base = noise(2, 9000)
    references = torch.stack([base[0], 0.9 * base[0] + 0.3 * base[1]])
    smooth = torch.from_numpy(signal.lfilter([1, 0.5, -0.2], [1, -0.7], references.numpy()))
    assert_agree(smooth, (smooth + 0.5 * smooth.flip(0)).clamp(-0.8, 0.8))


@pytest.mark.parametrize("name", ["amy_9_01", "abjones_5_03"])
def test_bss_eval_agrees_with_museval_on_real_clips(name: str, mir1k_root: Path) -> None:
    clip = next(clip for clip in find_clips(mir1k_root) if clip.name == name)
    sources = clip.load()[:, :48000]
    assert_agree(sources, sources + 0.2 * sources.flip(0))
    assert_agree(sources, (0.8 * sources + 0.3 * sources.sum(0)).clamp(-0.3, 0.3))


def test_two_calls_with_the_same_references_are_as_two_scorers() -> None:
    references, first, second = noise(2, 3000), noise(2, 3000, seed=1), noise(2, 3000, seed=2)
    evaluate = BssEval(references)
    for estimates in (first, second, first):
        assert torch.equal(evaluate(estimates).sdr, bss_eval_sources(references, estimates).sdr)


@pytest.mark.parametrize("gain", [1e-9, 1e-200, 1e6, -1.0])
def test_the_scale_of_estimates_and_references_does_not_matter(gain: float) -> None:
    references = noise(2, 3000)
    estimates = references + 0.3 * noise(2, 3000, seed=1)
    expected = bss_eval_sources(references, estimates)
    for scores in (bss_eval_sources(references, gain * estimates), bss_eval_sources(gain * references, estimates)):
        for value, wanted in zip(scores, expected, strict=True):
            torch.testing.assert_close(value, wanted, atol=1e-6, rtol=0)


def test_no_permutation_is_searched() -> None:
    references = noise(2, 3000)
    estimates = references + 0.1 * noise(2, 3000, seed=1)
    assert float(bss_eval_sources(references, estimates).sdr.min()) > 15
    assert float(bss_eval_sources(references, estimates.flip(0)).sdr.max()) < 0


def test_filtering_by_512_taps_is_forgiven_and_by_one_more_is_not() -> None:
    references = noise(2, 4000)
    for delay, is_forgiven in ((511, True), (512, False)):
        late = torch.nn.functional.pad(references, (delay, 0))[:, :4000]
        # What the delay pushes past the end is a distortion too, a small one.
        assert bool((bss_eval_sources(references, late).sdr > 5).all()) == is_forgiven


@pytest.mark.parametrize(
    ("references", "estimates", "unscored"),
    [
        (noise(2, 1023), noise(2, 1023), [0, 1]),
        (noise(2, 0), noise(2, 0), [0, 1]),
        (torch.stack([noise(3000), noise(3000)]), noise(2, 3000, seed=1), [0, 1]),
        (noise(3, 1024), noise(3, 1024, seed=1), [0, 1, 2]),
        (noise(2, 3000).index_fill(1, torch.tensor([7]), math.nan), noise(2, 3000), [0, 1]),
        (noise(2, 3000) * torch.tensor([[0.0], [1.0]]), noise(2, 3000, seed=1), [0]),
        (noise(2, 3000), noise(2, 3000, seed=1) * torch.tensor([[1.0], [0.0]]), [1]),
        (noise(2, 3000), noise(2, 3000, seed=1) + torch.tensor([[math.inf], [0.0]]), [0]),
    ],
    ids=[
        "too short",
        "empty",
        "singular",
        "more taps than samples",
        "nan",
        "silent reference",
        "silent estimate",
        "infinite estimate",
    ],
)
def test_rows_that_cannot_be_scored_are_nan_by_rule(
    references: torch.Tensor, estimates: torch.Tensor, unscored: list[int]
) -> None:
    scores = bss_eval_sources(references, estimates)
    for values in scores:
        assert values.isnan().nonzero().flatten().tolist() == unscored


def test_si_sdr_is_the_ratio_after_the_best_gain() -> None:
    references, estimates = noise(2, 500), noise(2, 500, seed=1)
    for reference, estimate, ours in zip(references, estimates, si_sdr(references, 3 * estimates), strict=True):
        gain = float(np.linalg.lstsq(reference[:, None].numpy(), estimate.numpy(), rcond=None)[0][0])
        error = estimate - gain * reference
        expected = 10 * math.log10(float((gain * reference).square().sum() / error.square().sum()))
        assert float(ours) == pytest.approx(expected, abs=1e-9)
    assert si_sdr(references * torch.tensor([[0.0], [1.0]]), estimates).isnan().tolist() == [True, False]


def test_nsdr_is_the_gain_over_the_mixture_and_nan_where_that_means_nothing() -> None:
    gains = nsdr(torch.tensor([9.0, 9.0, 290.0, math.nan]), torch.tensor([1.5, 290.0, 1.5, 1.5]))
    assert float(gains[0]) == 7.5
    assert gains.isnan().tolist() == [False, True, True, True]


def test_global_score_weighs_clips_by_their_length() -> None:
    assert global_score([1.0, 4.0], [30000, 60000]) == pytest.approx(3.0)
    assert global_score([1.0, math.nan, 290.0, 4.0], [30000, 99, 99, 60000]) == pytest.approx(3.0)
    assert math.isnan(global_score([math.nan], [10]))


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2000\), allowed: \(2, 2000\)"):
        bss_eval_sources(noise(2, 2000), noise(3, 2000))
    with pytest.raises(ValueError, match=r"\(2000,\)"):
        BssEval(noise(2000))
    with pytest.raises(ValueError, match=r"\(2, 7\)"):
        si_sdr(noise(2, 8), noise(2, 7))
    with pytest.raises(ValueError, match="2 lengths for 1 values"):
        global_score([1.0], [1, 2])
    with pytest.raises(ValueError, match="filter_length is 0"):
        BssEval(noise(2, 2000), 0)


def test_scoring_never_solves_by_lu_which_hangs_on_cpus() -> None:
    source = Path(metrics.__file__).read_text()
    assert "linalg.solve(" not in source
    assert "lu_factor" not in source
