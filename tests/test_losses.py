import math

import pytest
import torch
from torch import Tensor

from hourglass_sep.signal.stft import Spectrogram
from hourglass_sep.support.errors import SettingError
from hourglass_sep.training.losses import (
    compressed_l1,
    masked_l1,
    masked_l2,
    masked_l2_shared,
    masked_snr,
    masked_snr_shared,
    multi_resolution_snr,
    waveform_snr,
)

STFT = Spectrogram(8000, 64, 16, 32)


def inputs() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(3, 2, 2, 5, 7, generator=generator)
    batch = {
        "mixture": torch.rand(2, 1, 5, 7, generator=generator),
        "targets": torch.rand(2, 2, 5, 7, generator=generator),
    }
    return masks, batch


def sources() -> Tensor:
    return torch.randn(2, 2, 64 + 30 * 16, generator=torch.Generator().manual_seed(1))


def sounds(quieter_patch_by: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
    """Masks of which each takes its own source's share of the magnitude, and two patches of two sources of noise."""
    waveforms = sources()
    waveforms[1] /= quieter_patch_by
    spectra = STFT(waveforms, centred=False)
    mixture, targets = STFT.magnitude(spectra.sum(1, keepdim=True)), STFT.magnitude(spectra)
    masks = (targets / targets.sum(1, keepdim=True))[None]
    return masks, {"mixture": mixture, "targets": targets, "spectra": spectra}


def test_masked_l1_is_the_mean_over_batch_bins_and_frames_for_each_stack_and_source() -> None:
    masks, batch = inputs()
    losses = masked_l1(masks, batch)
    assert losses.shape == (3, 2)
    for k in range(3):
        for s in range(2):
            cells = [
                abs(
                    float(masks[k, b, s, f, t]) * float(batch["mixture"][b, 0, f, t])
                    - float(batch["targets"][b, s, f, t])
                )
                for b in range(2)
                for f in range(5)
                for t in range(7)
            ]
            torch.testing.assert_close(float(losses[k, s]), sum(cells) / len(cells), rtol=1e-5, atol=0)


def test_masked_l2_squares_what_masked_l1_takes_the_size_of() -> None:
    masks, batch = inputs()
    difference = masks * batch["mixture"] - batch["targets"]
    torch.testing.assert_close(masked_l2(masks, batch), difference.pow(2).mean((1, 3, 4)))
    torch.testing.assert_close(masked_l1(masks, batch), difference.abs().mean((1, 3, 4)))


def test_the_losses_of_perfect_masks_are_zero_and_of_others_are_not() -> None:
    _, batch = inputs()
    perfect = (batch["targets"] / batch["mixture"])[None]
    for loss in (masked_l1, masked_l2):
        assert float(loss(perfect, batch).max()) < 1e-5
        assert float(loss(perfect + 0.1, batch).min()) > 1e-4


def test_the_shared_loss_sees_what_dividing_by_the_sum_makes_of_the_masks() -> None:
    masks, batch = sounds()
    doubled = masks * 2
    # Twice the masks are the same masks once they are divided by their sum: half of the loss stays.
    torch.testing.assert_close(masked_l2_shared(masks, batch), masked_l2(masks, batch), rtol=0.01, atol=0)
    more = masked_l2_shared(doubled, batch) - masked_l2(masks, batch) / 2
    torch.testing.assert_close(more, masked_l2(doubled, batch) / 2, rtol=0.01, atol=0)


def waveform(masks: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return waveform_snr(masks, batch, STFT)


def resolutions(masks: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return multi_resolution_snr(masks, batch, STFT, [32, 128])


@pytest.mark.parametrize("loss", [masked_snr, waveform, resolutions])
def test_logarithmic_losses_count_quiet_patches_like_loud_ones(loss) -> None:
    losses = []
    for quieter in (1.0, 100.0):
        masks, batch = sounds(quieter)
        silent = torch.zeros_like(masks)
        assert loss(silent, batch) == pytest.approx(torch.zeros(1, 2), abs=0.05)  # all of the sources is missing
        losses.append(loss(masks, batch))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-3)
    assert float(losses[0].max()) < -0.3


def test_ten_decibels_less_error_are_one_less_down_to_minus_three() -> None:
    _, batch = sounds()
    perfect = (batch["targets"] / batch["mixture"])[None]
    far, near = (masked_snr(perfect + error, batch) for error in (1.0, 10**-0.5))
    torch.testing.assert_close(far - near, torch.ones(1, 2), atol=0.1, rtol=0)
    torch.testing.assert_close(masked_snr(perfect, batch), torch.full((1, 2), -3.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "loss", [masked_snr, masked_snr_shared, masked_l2_shared, waveform, resolutions, compressed_l1]
)
def test_silent_patches_have_finite_losses_and_gradients(loss) -> None:
    masks, batch = sounds()
    masks.requires_grad_()
    loss(masks, {name: torch.zeros_like(value) for name, value in batch.items()}).sum().backward()
    assert masks.grad is not None
    assert bool(masks.grad.isfinite().all())


def test_the_shared_logarithmic_loss_is_the_mean_of_both() -> None:
    masks, batch = sounds()
    both = masked_snr(2 * masks, batch) + masked_snr(masks, batch)  # these masks sum to one already
    torch.testing.assert_close(masked_snr_shared(2 * masks, batch), both / 2, rtol=0.01, atol=0.01)


def test_the_waveform_loss_is_the_ratio_of_the_energies_that_the_inverse_stft_gives() -> None:
    masks, batch = sounds()
    n_samples = 30 * 16
    spectra, waveforms = batch["spectra"], sources()
    for b, s in ((0, 0), (1, 1)):
        one = {name: value[b : b + 1] for name, value in batch.items()}
        estimate = STFT.inverse(STFT.extend(masks[0, b, s]) * spectra[b].sum(0), n_samples)
        reference = waveforms[b, :, 32 : 32 + n_samples]  # half a window in: frames are centred
        middle = slice(64, -64)  # at the ends the inverse has fewer frames than the waveform is made of
        error = (estimate - reference[s])[middle].square().mean()
        expected = math.log10(float(error / reference[:, middle].square().mean()) + 1e-3)
        assert float(waveform_snr(masks[:, b : b + 1], one, STFT)[0, s]) == pytest.approx(expected, abs=0.05)


def test_compression_makes_quiet_cells_count_more() -> None:
    mixture = torch.tensor([[[[1.0, 0.01]]]])
    batch = {"mixture": mixture, "targets": mixture.expand(1, 2, 1, 2)}
    loud, quiet = torch.tensor([0.5, 1.0]), torch.tensor([1.0, 0.5])
    masks = torch.stack([loud, quiet])[None, None, :, None]  # the first source misses half of the loud cell
    plain, compressed = masked_l1(masks, batch)[0], compressed_l1(masks, batch, 0.3)[0]
    assert float(plain[0] / plain[1]) == pytest.approx(100, rel=0.01)
    assert 2 < float(compressed[0] / compressed[1]) < 8
    torch.testing.assert_close(compressed_l1(masks, batch, 1), masked_l1(masks, batch))
    for power in (0, 2, "abc"):
        with pytest.raises(SettingError, match=rf"loss\.power={power!r} "):
            compressed_l1(masks, batch, power)  # type: ignore[arg-type]


@pytest.mark.parametrize("windows", [[], 256, [2], ["abc"]])
def test_lengths_of_windows_that_are_none_are_named(windows) -> None:
    with pytest.raises(SettingError, match=r"loss\.windows="):
        multi_resolution_snr(*sounds(), STFT, windows)


def test_the_loss_of_several_resolutions_is_that_of_the_waveforms_magnitudes_at_each() -> None:
    masks, batch = sounds()
    mixture = batch["spectra"].sum(1, keepdim=True)
    estimates = STFT.inverse(STFT.extend(masks[0]) * mixture, 480)
    references = STFT.inverse(batch["spectra"], 480)
    of_each = []
    for length in (32, 128):
        magnitudes = [
            torch.stft(
                sound.reshape(4, -1),
                length,
                length // 4,
                window=torch.hann_window(length),
                pad_mode="constant",
                return_complex=True,
            )
            .abs()[:, : length // 2]
            .reshape(2, 2, length // 2, -1)
            for sound in (estimates, references)
        ]
        error = (magnitudes[0] - magnitudes[1]).square().mean((2, 3))
        power = magnitudes[1].square().mean((1, 2, 3))[:, None]
        of_each.append(torch.log10(error / power + 1e-3).mean(0))
    assert float((of_each[0] - of_each[1]).abs().max()) > 0.01
    torch.testing.assert_close(resolutions(masks, batch)[0], sum(of_each) / 2, rtol=1e-4, atol=1e-4)


def test_losses_are_float32_where_the_network_was_not_and_have_gradients() -> None:
    masks, batch = sounds()
    losses = (
        masked_l1,
        masked_l2,
        masked_l2_shared,
        masked_snr,
        waveform,
        resolutions,
        compressed_l1,
    )
    for loss in losses:
        low = (masks - 0.1).bfloat16().requires_grad_()
        values = loss(low, batch)
        assert values.dtype == torch.float32
        assert values.shape == (1, 2)
        values.sum().backward()
        assert low.grad is not None
        assert bool(low.grad.isfinite().all())
