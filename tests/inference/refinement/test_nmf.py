from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor
from torchnmf.metrics import beta_div
from torchnmf.nmf import NMF

from hourglass_sep.audio import resample
from hourglass_sep.data.mir1k import find_clips
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.refinement import nmf

STFT = Spectrogram()


def mixture(seed: int = 0, seconds: float = 5.0) -> Tensor:
    return STFT.magnitude(STFT(resample(synthesize_song(seed, seconds, 16000).sum(0), 16000, 8000)))


def error(magnitude: Tensor, w: Tensor, h: Tensor) -> float:
    return float((magnitude - w @ h).norm() / magnitude.norm())


def divergence(magnitude: Tensor, w: Tensor, h: Tensor, beta: float) -> float:
    scale = magnitude.max()
    return float(beta_div(w @ h / scale, (magnitude / scale).clamp_min(1e-8), beta))


@pytest.mark.slow
def test_clips_are_approximated_as_well_as_by_librosa(mir1k_root: Path) -> None:
    ours, theirs = [], []
    for clip in find_clips(mir1k_root)[::60]:
        magnitude = STFT.magnitude(STFT(resample(clip.load().stacked(SOURCES)[:, 0].sum(0), 16000, 8000)))
        ours.append(error(magnitude, *nmf.factorise(magnitude, 100)))
        components, activations = librosa.decompose.decompose(magnitude.numpy(), n_components=100)
        theirs.append(error(magnitude, torch.from_numpy(components), torch.from_numpy(activations)))
    assert len(ours) >= 5
    assert np.mean(ours) < np.mean(theirs) + 0.015
    assert np.mean(ours) < 0.08


def test_what_is_of_low_rank_is_recovered() -> None:
    generator = torch.Generator().manual_seed(0)
    w, h = torch.rand(60, 3, generator=generator) ** 4, torch.rand(3, 80, generator=generator) ** 4
    assert error(w @ h, *nmf.factorise(w @ h, 3, 50)) < 0.02


def test_factors_are_not_negative_and_the_magnitudes_unit_is_in_the_activations() -> None:
    magnitude = mixture()
    w, h = nmf.factorise(magnitude, 20)
    louder_w, louder_h = nmf.factorise(1024 * magnitude, 20)
    assert w.min() >= 0
    assert h.min() >= 0
    torch.testing.assert_close(louder_w, w)
    torch.testing.assert_close(louder_h, 1024 * h)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
def test_iterations_lower_the_divergence_that_was_asked_for(beta: float) -> None:
    magnitude = mixture()
    found = [divergence(magnitude, *nmf.factorise(magnitude, 40, n, beta), beta) for n in (0, 5, 30)]
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize(("beta", "share"), [(0.0, 1.25), (1.0, 1.05)])
def test_thirty_iterations_of_another_divergence_do_what_a_hundred_from_a_random_start_do(
    beta: float, share: float
) -> None:
    """A start with zeros in it would not: they could not grow."""
    magnitude = mixture()
    torch.manual_seed(0)
    random = NMF(W=(512, 40), H=(magnitude.shape[1], 40))
    frames = (magnitude / magnitude.max()).clamp_min(1e-8).T.contiguous()
    random.fit(frames, beta=beta, tol=0, max_iter=100)
    w, h = random.W.detach(), random.H.detach().T * magnitude.max()
    assert divergence(magnitude, *nmf.factorise(magnitude, 40, 30, beta), beta) < share * divergence(
        magnitude, w, h, beta
    )


def test_activations_of_given_templates_are_those_of_non_negative_least_squares() -> None:
    magnitude = mixture()
    w, _ = nmf.factorise(magnitude, 20)
    other = mixture(seed=1)
    h = nmf.activations(other, w, max_iter=0)
    best = np.stack([scipy.optimize.nnls(w.numpy(), frame)[0] for frame in other.T.numpy()], axis=1)
    assert error(other, w, h) < 1.01 * error(other, w, torch.from_numpy(best).float())
    assert error(other, w, nmf.activations(other, w, max_iter=20)) < 1.01 * error(other, w, h)


def test_many_iterations_leave_no_denormal_numbers() -> None:
    for factor in nmf.factorise(mixture(), 60, 100):
        assert factor[factor > 0].min() > 1e-20


def test_it_works_where_gradients_and_inference_mode_are_on_or_off() -> None:
    magnitude = mixture(seconds=1.0)
    expected = nmf.factorise(magnitude, 5)
    with torch.inference_mode():
        inside = nmf.factorise(2 * magnitude / 2, 5)
        h = nmf.activations(2 * magnitude / 2, 1 * expected[0])
    assert torch.equal(h, nmf.activations(magnitude, expected[0]))
    with torch.no_grad():
        without = nmf.factorise(magnitude, 5)
    for result in (inside, without):
        assert all(torch.equal(*pair) for pair in zip(result, expected, strict=True))
        assert not any(factor.requires_grad or factor.is_inference() for factor in result)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 5), (4, 9), (9, 4), (8, 8)])
@pytest.mark.parametrize("kind", ["constant", "one cell", "random"])
def test_odd_magnitudes_have_finite_factors(shape: tuple[int, int], kind: str) -> None:
    rank = min(shape)
    magnitude = torch.full(shape, 1e-3)
    if kind == "one cell":
        magnitude = torch.zeros(shape)
        magnitude[-1, -1] = 7.0
    elif kind == "random":
        magnitude = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for beta in (2.0,) if kind == "one cell" else (0.0, 1.0, 2.0):
        w, h = nmf.factorise(magnitude, rank, 30, beta)
        assert torch.isfinite(w).all()
        assert torch.isfinite(h).all()
        assert (w.shape, h.shape) == ((shape[0], rank), (rank, shape[1]))
        if beta == 2:
            assert error(magnitude, w, h) < (0.15 if kind == "random" else 0.02)


@pytest.mark.parametrize("rank", [20, 60, 120, 140])
def test_noise_is_approximated_too(rank: int) -> None:
    """ADMM that carries its scaled multipliers from round to round ends with factors of zeros here."""
    noise = STFT.magnitude(STFT(0.1 * torch.randn(40000, generator=torch.Generator().manual_seed(0))))
    w, h = librosa.decompose.decompose(noise.numpy(), n_components=rank, max_iter=60)
    theirs = error(noise, torch.from_numpy(w), torch.from_numpy(h))
    assert error(noise, *nmf.factorise(noise, rank)) < theirs + 0.06
    assert error(noise, *nmf.factorise(noise, rank + 17)) < error(noise, *nmf.factorise(noise, rank))  # up to full rank


@pytest.mark.parametrize("max_iter", [0, 1, 10, 25])
def test_torchnmf_does_as_many_iterations_as_it_is_told(max_iter: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(NMF, "fit", lambda *_, max_iter, **__: done.append(max_iter))
    nmf.factorise(mixture(seconds=1.0), 5, max_iter)
    assert sum(done) == max_iter


def test_the_sign_of_singular_vectors_does_not_matter() -> None:
    left, right = torch.randn(9, 4), torch.randn(7, 4)
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0])
    for one, other in zip(nmf._nndsvda(left, right, 0.1), nmf._nndsvda(signs * left, signs * right, 0.1), strict=True):
        torch.testing.assert_close(one, other)


def test_what_cannot_be_factorised_is_said() -> None:
    for rank in (0, 5, -1):
        with pytest.raises(ValueError, match=f"rank={rank} is not allowed"):
            nmf.factorise(torch.ones(4, 9), rank)
    with pytest.raises(ValueError, match="highest magnitude is 0"):
        nmf.factorise(torch.zeros(4, 9), 1)
    with pytest.raises(ValueError, match="highest magnitude is 0"):
        nmf.activations(torch.zeros(4, 9), torch.ones(4, 1))
