import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hourglass_sep.scoring.bsseval.signals import Signals
from hourglass_sep.scoring.bsseval.toeplitz import _CHUNK_SAMPLES, ToeplitzSystem, cross_correlate


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def delayed(signals: torch.Tensor, taps: int) -> torch.Tensor:
    """(R, N) to (L * R, N + L - 1), rows (tap, signal)."""
    return torch.stack([F.pad(signals, (p, taps - 1 - p)) for p in range(taps)]).flatten(0, 1)


def unit(signals: torch.Tensor) -> torch.Tensor:
    return signals / signals.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("n_samples", [3, 1000, 3585, 3586, 9000, 2 * _CHUNK_SAMPLES + 77])
def test_correlations_are_sums_of_products_wherever_a_block_ends(n_samples: int) -> None:
    signals, references = noise(3, n_samples), noise(2, n_samples, seed=1)
    found = cross_correlate(Signals(signals), Signals(references), 512)
    for lag in (0, 1, 300, 511):
        expected = signals[:, lag:] @ references[:, : max(n_samples - lag, 0)].T
        torch.testing.assert_close(found[..., lag], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("n_refs", "taps"), [(1, 512), (2, 512), (3, 100), (2, 31), (5, 8), (40, 3), (2, 1)])
@pytest.mark.parametrize("ridge", [None, 0.0, 1e-9])
def test_filters_and_explained_energy_are_those_of_the_dense_normal_equations(
    n_refs: int, taps: int, ridge: float | None
) -> None:
    references, signals = unit(noise(n_refs, 4000)), unit(noise(3, 4000, seed=1) + noise(n_refs, 4000).sum(0))
    system = ToeplitzSystem(cross_correlate(Signals(references), Signals(references), taps)[None], ridge)
    correlation = cross_correlate(Signals(signals), Signals(references), taps).movedim(0, -1)[None]
    matrix, right = delayed(references, taps), F.pad(signals, (0, taps - 1))
    best = np.linalg.lstsq(matrix.T.numpy(), right.T.numpy(), rcond=None)[0]
    assert bool(system.definite)
    filters = system.filters(correlation)[0].transpose(0, 1).flatten(0, 1)  # (L * R, E)
    np.testing.assert_allclose(filters.numpy(), best, atol=1e-10)
    explained, bound = system.explain(correlation)
    expected = torch.from_numpy(matrix.T.numpy() @ best).square().sum(0)
    assert bool(((explained[0] - expected).abs() <= bound[0]).all())
    assert float(bound.max()) < 1e-11


def test_systems_of_a_batch_do_not_mix() -> None:
    correlations = [
        cross_correlate(Signals(x), Signals(x), 64)[None] for x in (unit(noise(2, 3000, seed=s)) for s in range(3))
    ]
    right = noise(3, 2, 64, 1, seed=9) / 20
    together = ToeplitzSystem(torch.cat(correlations)).filters(right)
    for b, correlation in enumerate(correlations):
        torch.testing.assert_close(together[b], ToeplitzSystem(correlation).filters(right[b : b + 1])[0])


def test_a_factor_that_rounding_has_spoilt_is_known_as_such() -> None:
    spectrum = torch.fft.rfft(noise(2, 9000))
    spectrum[:, 2000:] *= 1e-5  # positive definite, but nearly singular
    references = unit(torch.fft.irfft(spectrum))
    correlation = cross_correlate(Signals(references), Signals(references), 512)[None]
    assert not bool(ToeplitzSystem(correlation).definite)
    assert bool(ToeplitzSystem(correlation, ridge=1e-12).definite)


def test_a_matrix_that_is_not_definite_is_known_as_such() -> None:
    copies = unit(noise(1, 3000)).expand(2, -1)
    spectrum = torch.fft.rfft(noise(2, 9000))
    spectrum[:, 2000:] = 0
    for references in (copies, unit(torch.fft.irfft(spectrum))):
        assert not bool(ToeplitzSystem(cross_correlate(Signals(references), Signals(references), 512)[None]).definite)
