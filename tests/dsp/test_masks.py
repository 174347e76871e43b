import pytest
import torch

from hourglass_sep.dsp.masks import apply_masks, ideal_binary_mask, ideal_ratio_mask, phase_sensitive_mask, share


def spectra(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def test_raw_masks_stay_as_they_are() -> None:
    masks = torch.rand(2, 3, 4, 5) * 3
    assert torch.equal(share(masks, "raw"), masks)


def test_masks_divided_by_their_sum_add_up_to_one_even_where_all_are_zero() -> None:
    masks = torch.rand(2, 3, 2, 4, 5)
    masks[0, :, 1, 1, 2] = 0
    shared = share(masks, "sum_to_one")
    torch.testing.assert_close(shared.sum(1), torch.ones(2, 2, 4, 5))
    torch.testing.assert_close(shared[0, :, 1, 1, 2], torch.full((3,), 1 / 3))
    torch.testing.assert_close(shared[1, 0] * masks[1, 1], shared[1, 1] * masks[1, 0])


def test_masks_that_are_no_numbers_are_not_shared_out_in_equal_parts() -> None:
    assert bool(share(torch.full((2, 1, 3, 4), torch.nan), "sum_to_one").isnan().all())


def test_each_source_is_its_mask_times_the_spectrum_of_every_channel() -> None:
    spectrum = spectra(2, 2, 4, 5)
    for masks in (torch.rand(2, 3, 2, 4, 5), torch.rand(2, 3, 1, 4, 5)):
        applied = apply_masks(masks, spectrum)
        assert applied.shape == (2, 3, 2, 4, 5)
        for s in range(3):
            for c in range(2):
                assert torch.equal(applied[:, s, c], masks[:, s, c % masks.shape[2]] * spectrum[:, c])


def test_ideal_ratio_mask_is_the_share_of_the_magnitudes() -> None:
    sources = spectra(2, 2, 4, 5)
    torch.testing.assert_close(ideal_ratio_mask(sources)[0], sources[0].abs() / sources.abs().sum(0))


def test_ideal_binary_mask_keeps_the_loudest_source() -> None:
    sources = spectra(3, 2, 4, 5)
    mask = ideal_binary_mask(sources)
    assert torch.equal(mask.sum(0), torch.ones(2, 4, 5))
    assert torch.equal(mask.argmax(0), sources.abs().argmax(0))


def test_phase_sensitive_mask_is_the_best_real_mask_between_zero_and_one() -> None:
    sources = spectra(2, 2, 6, 7)
    mixture = sources.sum(0)
    best = phase_sensitive_mask(sources)
    error = (best * mixture - sources).abs()
    for candidate in torch.linspace(0, 1, 21):
        assert bool((error <= (candidate * mixture - sources).abs() + 1e-6).all())


@pytest.mark.parametrize("oracle", [ideal_ratio_mask, ideal_binary_mask, phase_sensitive_mask])
def test_oracle_masks_of_silence_are_finite(oracle) -> None:
    assert bool(oracle(torch.zeros(2, 1, 3, 4, dtype=torch.complex64)).isfinite().all())
