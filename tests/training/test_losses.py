import pytest
import torch
from torch import Tensor

from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.training.losses import masked_l1, masked_snr

STFT = Spectrogram(8000, 64, 16, 32)


def inputs() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(3, 2, 2, 3, 5, 7, generator=generator)
    batch = {
        "mixture": torch.rand(2, 3, 5, 7, generator=generator),
        "targets": torch.rand(2, 2, 3, 5, 7, generator=generator),
    }
    return masks, batch


def sounds(quieter_patch_by: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
    """Masks of which each takes its own source's share of the magnitude, and two patches of two sources of noise."""
    waveforms = torch.randn(2, 2, 1, 64 + 30 * 16, generator=torch.Generator().manual_seed(1))
    waveforms[1] /= quieter_patch_by
    spectra = STFT(waveforms, centred=False)
    mixture, targets = STFT.magnitude(spectra.sum(1)), STFT.magnitude(spectra)
    masks = (targets / targets.sum(1, keepdim=True))[None]
    return masks, {"mixture": mixture, "targets": targets}


def test_masked_l1_is_the_mean_over_batch_channels_bins_and_frames_for_each_stack_and_source() -> None:
    masks, batch = inputs()
    losses = masked_l1(masks, batch)
    assert losses.shape == (3, 2)
    for k in range(3):
        for s in range(2):
            cells = [
                abs(
                    float(masks[k, b, s, c, f, t]) * float(batch["mixture"][b, c, f, t])
                    - float(batch["targets"][b, s, c, f, t])
                )
                for b in range(2)
                for c in range(3)
                for f in range(5)
                for t in range(7)
            ]
            torch.testing.assert_close(float(losses[k, s]), sum(cells) / len(cells), rtol=1e-5, atol=0)


def test_the_loss_of_perfect_masks_is_zero_and_of_others_is_not() -> None:
    _, batch = inputs()
    perfect = (batch["targets"] / batch["mixture"][:, None])[None]
    assert float(masked_l1(perfect, batch).max()) < 1e-5
    assert float(masked_l1(perfect + 0.1, batch).min()) > 1e-4


def test_masked_snr_is_the_logarithm_of_each_patchs_squared_error_over_its_targets_power() -> None:
    masks, batch = inputs()
    error = (masks * batch["mixture"][:, None] - batch["targets"]).square().mean((3, 4, 5))  # (K, B, S)
    power = batch["targets"].square().mean((1, 2, 3, 4))[:, None]
    torch.testing.assert_close(masked_snr(masks, batch), torch.log10(error / power + 1e-3).mean(1))


def test_the_logarithmic_loss_counts_quiet_patches_like_loud_ones() -> None:
    losses = []
    for quieter in (1.0, 100.0):
        masks, batch = sounds(quieter)
        silent = torch.zeros_like(masks)
        assert masked_snr(silent, batch) == pytest.approx(torch.zeros(1, 2), abs=0.05)  # all of the sources is missing
        losses.append(masked_snr(masks, batch))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-3)
    assert float(losses[0].max()) < -0.3


def test_ten_decibels_less_error_are_one_less_down_to_minus_three() -> None:
    _, batch = sounds()
    perfect = (batch["targets"] / batch["mixture"][:, None])[None]
    far, near = (masked_snr(perfect + error, batch) for error in (1.0, 10**-0.5))
    torch.testing.assert_close(far - near, torch.ones(1, 2), atol=0.1, rtol=0)
    torch.testing.assert_close(masked_snr(perfect, batch), torch.full((1, 2), -3.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("loss", [masked_l1, masked_snr])
def test_one_mask_for_all_channels_is_that_mask_in_each(loss) -> None:
    masks, batch = inputs()
    one = masks[:, :, :, :1]
    torch.testing.assert_close(loss(one, batch), loss(one.expand_as(masks), batch))


@pytest.mark.parametrize("loss", [masked_l1, masked_snr])
def test_silent_patches_have_finite_losses_and_gradients(loss) -> None:
    masks, batch = sounds()
    masks.requires_grad_()
    loss(masks, {name: torch.zeros_like(value) for name, value in batch.items()}).sum().backward()
    assert masks.grad is not None
    assert bool(masks.grad.isfinite().all())


@pytest.mark.parametrize("loss", [masked_l1, masked_snr])
def test_losses_are_float32_where_the_network_was_not_and_have_gradients(loss) -> None:
    masks, batch = sounds()
    low = (masks - 0.1).bfloat16().requires_grad_()
    values = loss(low, batch)
    assert values.dtype == torch.float32
    assert values.shape == (1, 2)
    values.sum().backward()
    assert low.grad is not None
    assert bool(low.grad.isfinite().all())
