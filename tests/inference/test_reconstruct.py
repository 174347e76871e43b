import pytest
import torch
from openunmix import filtering
from torch import Tensor

from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.masks import apply_masks, ideal_ratio_mask, phase_sensitive_mask
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.reconstruct import Misi, MixturePhase, Reconstruction, Wiener
from hourglass_sep.scoring.metrics import si_sdr
from hourglass_sep.support.errors import SettingError

STFT = Spectrogram()
RULES = [MixturePhase(), Wiener(), Wiener(3), Misi(), Misi(1)]


def scene(channels: int, n_samples: int = 80000, mask_channels: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Sources (1, S, C, N), the mixture's spectrum, and masks (1, S, 1|C, F, T) that add up to one."""
    sources = synthesize_song(4, n_samples / 8000, 8000)[:, None]
    gains = torch.linspace(0.2, 1.0, channels)
    sources = (sources * torch.stack([gains, gains.flip(0)])[..., None])[None]
    spectrum = STFT(sources.sum(1))
    shape = (1, 2, mask_channels, *spectrum.shape[-2:])
    masks = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return sources, spectrum, masks / masks.sum(1, keepdim=True)


@pytest.mark.parametrize(("channels", "mask_channels"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 3)])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{type(rule).__name__}")
def test_stems_add_up_to_the_mixture(rule: MixturePhase, channels: int, mask_channels: int) -> None:
    sources, spectrum, masks = scene(channels, mask_channels=mask_channels)
    stems = rule(masks, spectrum, STFT, 80000)
    assert stems.shape == sources.shape
    torch.testing.assert_close(stems.sum(1), sources.sum(1), atol=2e-6, rtol=0)


@pytest.mark.parametrize("rule", [Wiener(0), Misi(0)])
def test_no_iterations_are_the_mixtures_phase(rule: MixturePhase) -> None:
    _, spectrum, masks = scene(2)
    torch.testing.assert_close(rule(masks, spectrum, STFT, 80000), MixturePhase()(masks, spectrum, STFT, 80000))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{type(rule).__name__}")
def test_silence_in_is_silence_out_and_masks_may_be_zero(rule: MixturePhase) -> None:
    _, spectrum, masks = scene(2)
    assert not rule(masks, torch.zeros_like(spectrum), STFT, 80000).any()
    masks[:, 0] = 0
    masks[..., :100] = 0
    assert torch.isfinite(rule(masks, spectrum, STFT, 80000)).all()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{type(rule).__name__}")
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_masks_that_are_not_finite_stay_so(rule: MixturePhase, value: float) -> None:
    _, spectrum, masks = scene(1)
    masks[0, 0, 0, 5, 5] = value
    assert not rule(masks, spectrum, STFT, 80000).isfinite().all()


def test_the_filter_of_a_mono_song_divides_squared_masks_by_their_sum() -> None:
    _, spectrum, masks = scene(1)
    squared = masks.square() / masks.square().sum(1, keepdim=True)
    expected = MixturePhase()(squared, spectrum, STFT, 80000)
    spread = Wiener()(masks, spectrum, STFT, 80000)
    torch.testing.assert_close(spread, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("channels", "mask_channels"), [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("iterations", [1, 2])
def test_the_filter_is_openunmixs(channels: int, mask_channels: int, iterations: int) -> None:
    """On noise: openunmix turns cells of 70 dB below the loudest down, where ours keeps what adds up."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(1, 2, channels, 80000, generator=generator) * torch.tensor([1.0, 0.3])[:, None, None]
    spectrum, masks = STFT(sources.sum(1)), scene(1, mask_channels=mask_channels)[2]
    targets = (masks[0] * spectrum[0].abs()).permute(3, 2, 1, 0).double()
    mixture = torch.view_as_real(spectrum[0].permute(2, 1, 0).contiguous()).double()
    theirs = filtering.wiener(targets, mixture, iterations, eps=1e-14)  # (T, F, C, 2, S)
    spectra = torch.view_as_complex(theirs.permute(4, 2, 1, 0, 3).contiguous()).to(torch.complex64)
    ours = Wiener(iterations)(masks, spectrum, STFT, 80000)[0]
    torch.testing.assert_close(ours, STFT.inverse(spectra, 80000), atol=1e-4 * float(ours.abs().max()), rtol=0)


def test_the_filter_hears_where_the_sources_are() -> None:
    """Masks cannot tell the channels apart, the filter can: sources panned apart come out cleaner."""
    sources, spectrum, _ = scene(2)
    masks = 0.5 * ideal_ratio_mask(STFT(sources.mean(2, keepdim=True))) + 0.25
    scores = {}
    rules: dict[str, Reconstruction] = {"masks": MixturePhase(), "filter": Wiener(2)}
    for name, rule in rules.items():
        stems = rule(masks, spectrum, STFT, 80000)
        scores[name] = float(si_sdr(sources[0].flatten(1), stems[0].flatten(1)).mean())
    assert scores["filter"] > scores["masks"] + 3


def test_phases_are_found_where_magnitudes_are_right() -> None:
    """With the phase-sensitive masks, each round's stems are nearer to the sources than the last one's."""
    sources, spectrum, _ = scene(1)
    masks = phase_sensitive_mask(STFT(sources))
    masks = masks / masks.sum(1, keepdim=True).clamp_min(1e-8)
    scores = [
        float(si_sdr(sources[0, :, 0], Misi(n)(masks, spectrum, STFT, 80000)[0, :, 0]).mean()) for n in (0, 1, 2, 5)
    ]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.1


def test_misi_keeps_magnitudes_that_are_already_consistent() -> None:
    _, spectrum, masks = scene(2)
    same = torch.tensor([0.25, 0.75]).reshape(1, 2, 1, 1, 1).expand_as(masks)
    stems = Misi(3)(same, spectrum, STFT, 80000)
    torch.testing.assert_close(STFT(stems), apply_masks(same, spectrum), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("iterations", [-1, 1.5, "two", True])
@pytest.mark.parametrize("rule", [Wiener, Misi])
def test_iterations_that_cannot_be_are_named(rule: type, iterations: object) -> None:
    with pytest.raises(SettingError, match="iterations="):
        rule(iterations)
