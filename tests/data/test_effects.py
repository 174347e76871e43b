import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import scipy.signal
import torch
import torchaudio.functional as ta
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hourglass_sep.data.effects import (
    EQ,
    ChannelSwap,
    Compressor,
    Level,
    Pan,
    PerSource,
    Polarity,
    Reverb,
    Width,
    apply_effects,
    check_effects,
)
from hourglass_sep.data.effects.convolution import convolve, fast_length
from hourglass_sep.data.effects.eq import biquad, impulse_response
from hourglass_sep.support.errors import SettingError
from hourglass_sep.support.paths import CONFIG_DIR
from tests.helpers.runs import composed

NAMES = ("vocals", "drums", "bass", "other")
KINDS: list[Callable[..., Any]] = [Reverb, EQ, Compressor, Level, Polarity, Pan, Width, ChannelSwap]
MONO = [kind for kind in KINDS if not getattr(kind, "needs_stereo", False)]
CONFIGS = sorted(path.stem for path in (CONFIG_DIR / "effect").glob("*.yaml"))
RATE = 8000


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def decibels(after: Tensor, before: Tensor) -> float:
    return float(10 * torch.log10(after.square().mean() / before.square().mean()))


def every_effect() -> dict[str, PerSource]:
    return {kind.__name__: PerSource(kind, probability=0.7) for kind in KINDS}


def configured(*overrides: str) -> dict[str, PerSource]:
    return {str(name): instantiate(node) for name, node in composed("train", *overrides).effects.items()}


# --- which sources, how often, and whose random numbers


def test_patches_follow_from_seed_and_index_alone() -> None:
    sources = noise(4, 2, 3000)
    first, second = every_effect(), every_effect()
    expected = {i: apply_effects(first, sources, NAMES, RATE, 1, i) for i in (0, 7, 2**40)}
    torch.rand(5)
    for i in (2**40, 0, 7):
        assert torch.equal(apply_effects(second, sources, NAMES, RATE, 1, i), expected[i])
    assert not torch.equal(expected[0], expected[7])
    assert not torch.equal(apply_effects(first, sources, NAMES, RATE, 2, 0), expected[0])


class Recorder:
    """An effect that keeps its draws and leaves the waveform as it is."""

    def __init__(self, draws: list[float]) -> None:
        self.draws = draws

    def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
        self.draws.append(rng.random())
        return waveform


def test_an_effect_that_is_added_changes_no_draw_of_the_others() -> None:
    alone: list[float] = []
    among: list[float] = []
    sources = noise(4, 2, 500)
    before, after = PerSource(Level), PerSource(Pan)
    for i in range(20):
        apply_effects({"x": PerSource(Recorder, None, 0.6, draws=alone)}, sources, NAMES, RATE, 0, i)
        some = {"level": before, "x": PerSource(Recorder, None, 0.6, draws=among), "pan": after}
        apply_effects(some, sources, NAMES, RATE, 0, i)
    assert alone == among
    assert len(set(alone)) == len(alone)  # each source has draws of its own
    assert 30 < len(alone) < 66  # 0.6 of 80


def test_two_effects_of_one_kind_have_draws_of_their_own() -> None:
    found: list[list[float]] = [[], []]
    some = {name: PerSource(Recorder, draws=draws) for name, draws in zip(("a", "b"), found, strict=True)}
    apply_effects(some, noise(4, 1, 10), NAMES, RATE, 0, 0)
    assert not set(found[0]) & set(found[1])


def test_only_the_named_sources_change() -> None:
    sources = noise(4, 1, 2000)
    changed = apply_effects({"flip": PerSource(Polarity, ["bass", "vocals"])}, sources, NAMES, RATE, 0, 0)
    assert torch.equal(changed, sources * torch.tensor([-1.0, 1, -1, 1])[:, None, None])


@pytest.mark.parametrize("kind", KINDS)
def test_with_probability_0_the_sources_stay_bit_for_bit(kind: Callable[..., Any]) -> None:
    sources = noise(4, 2, 2000)
    for i in range(20):
        assert torch.equal(apply_effects({"x": PerSource(kind, None, 0)}, sources, NAMES, RATE, 0, i), sources)


def test_without_effects_the_sources_are_returned_themselves() -> None:
    sources = noise(4, 2, 100)
    assert apply_effects({}, sources, NAMES, RATE, 0, 0) is sources


def test_effects_run_in_the_order_in_which_they_are_given() -> None:
    class Add:
        def __call__(self, waveform: Tensor, sample_rate_hz: int, rng: np.random.Generator) -> Tensor:
            return waveform + 1

    sources = torch.ones(1, 1, 4)
    add, flip = PerSource(Add), PerSource(Polarity)
    assert apply_effects({"add": add, "flip": flip}, sources, ["vocals"], RATE, 0, 0)[0, 0, 0] == -2
    assert apply_effects({"flip": flip, "add": add}, sources, ["vocals"], RATE, 0, 0)[0, 0, 0] == 0


# --- what holds for every effect


@pytest.mark.parametrize("kind", KINDS)
def test_an_effect_returns_a_new_finite_waveform_and_leaves_its_argument(kind: Callable[..., Any]) -> None:
    effect = kind()
    for channels in (1, 2) if kind in MONO else (2,):
        for n_samples in (1, 7, 50, 3001):
            for level in (1e-30, 1e-6, 1.0, 100.0):
                waveform = noise(channels, n_samples) * level
                before = waveform.clone()
                made = effect(waveform, RATE, rng(n_samples))
                assert torch.equal(waveform, before)
                assert made.data_ptr() != waveform.data_ptr()
                assert (made.shape, made.dtype) == (waveform.shape, torch.float32)
                assert torch.isfinite(made).all()


@pytest.mark.parametrize("kind", KINDS)
def test_silence_stays_silence(kind: Callable[..., Any]) -> None:
    for i in range(5):
        assert not kind()(torch.zeros(2, 3000), RATE, rng(i)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_is_twice_as_loud_gives_a_result_that_is_twice_as_loud(kind: Callable[..., Any]) -> None:
    waveform = noise(2, 4000)
    for i in range(3):
        once, twice = (kind()(gain * waveform, RATE, rng(i)) for gain in (1, 2))
        torch.testing.assert_close(twice, 2 * once, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [Reverb, EQ, Compressor])
def test_the_level_is_kept_unless_it_is_not_asked_for(kind: Callable[..., Any]) -> None:
    waveform = noise(2, 8000) * torch.linspace(0.01, 1, 8000)
    kept = [decibels(kind()(waveform, RATE, rng(i)), waveform) for i in range(10)]
    assert kept == pytest.approx([0] * 10, abs=1e-3)
    free = [decibels(kind(keep_level=False)(waveform, RATE, rng(i)), waveform) for i in range(10)]
    assert max(map(abs, free)) > 0.3
    assert max(map(abs, free)) < 24


# --- convolution, EQ and reverb against oracles


@given(st.integers(1, 20000), st.integers(1, 9000), st.integers(1, 2), st.booleans())
def test_convolution_is_the_direct_one(n_samples: int, length: int, channels: int, shared: bool) -> None:
    waveform = noise(channels, n_samples)
    response = noise(1 if shared else channels, min(length, n_samples), seed=1)
    found = convolve(waveform, response).double().numpy()
    direct = [
        np.convolve(one, another)[:n_samples]
        for one, another in zip(waveform.double(), response.double().expand(channels, -1), strict=True)
    ]
    np.testing.assert_allclose(found, direct, atol=1e-6 * float(np.abs(direct).max()) + 1e-9, rtol=1e-5)


@given(st.integers(1, 10**6))
def test_fft_lengths_are_just_long_enough_and_smooth(least: int) -> None:
    length = fast_length(least)
    assert least <= length <= 1.26 * least + 16
    for prime in (2, 3, 5):
        while length % prime == 0:
            length //= prime
    assert length == 1


BIQUADS = {"low": ta.bass_biquad, "peak": ta.equalizer_biquad, "high": ta.treble_biquad}


@given(st.sampled_from(sorted(BIQUADS)), st.floats(40, 19000), st.floats(-24, 24), st.floats(0.3, 5))
def test_filters_are_those_of_the_cookbook(kind: str, frequency_hz: float, gain_db: float, q: float) -> None:
    """The oracle is torchaudio's implementation."""
    impulse = torch.zeros(1, 400, dtype=torch.float64)
    impulse[0, 0] = 1e-3  # far from torchaudio's clipping at 1
    expected = 1e3 * BIQUADS[kind](impulse, 44100, gain_db, frequency_hz, q).numpy()[0]
    if kind == "peak":
        expected = 1e3 * ta.equalizer_biquad(impulse, 44100, frequency_hz, gain_db, q).numpy()[0]
    numerator, denominator = biquad(kind, frequency_hz / 44100, gain_db, q)
    found = scipy.signal.lfilter(numerator, denominator, np.eye(1, 400)[0])
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_eq_is_the_chain_of_its_filters(rate: int) -> None:
    """The oracle is scipy's recursion; impulse responses are cut where they have decayed by 120 dB."""
    waveform = noise(2, rate)
    for seed in range(10):
        eq = EQ(gain_db=(-12, 12), q=(0.5, 4), peaks=3, keep_level=False)
        found = eq(waveform, rate, rng(seed)).numpy()
        sections = eq.draw_filters(rate, rng(seed)).reshape(-1, 6)
        expected = scipy.signal.sosfilt(sections / sections[:, 3:4], waveform.double().numpy())
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_filters_stay_below_the_nyquist_frequency_of_low_rates() -> None:
    for seed in range(20):
        sections = EQ(high_shelf_hz=(9000, 12000)).draw_filters(8000, rng(seed))
        assert np.isfinite(sections).all()
        assert len(impulse_response(sections, 10**6)) < 4000
        assert all(np.abs(np.roots(denominator)).max() < 1 for denominator in sections[:, 1])


def test_reverb_is_the_convolution_with_its_room() -> None:
    waveform = noise(2, 9000)
    reverb = Reverb(keep_level=False)
    room = reverb.draw_response(2, 9000, RATE, rng(3)).double()
    expected = [np.convolve(one, another)[:9000] for one, another in zip(waveform.double(), room, strict=True)]
    np.testing.assert_allclose(reverb(waveform, RATE, rng(3)), expected, atol=1e-5)


def test_rooms_have_the_reverberation_time_and_the_direct_sound_that_were_asked_for() -> None:
    """The time is that of Schroeder's backward integration between -5 and -25 dB of the late part."""
    for seed, (seconds, ratio_db, predelay) in enumerate([(0.3, 6, 0.0), (0.8, -3, 0.02), (2.0, 12, 0.1)]):
        reverb = Reverb((seconds, seconds), (ratio_db, ratio_db), (predelay, predelay))
        room = reverb.draw_response(2, 10**6, 16000, rng(seed)).double()
        assert torch.equal(room[:, 0], torch.ones(2).double())
        first = round(predelay * 16000)
        assert not room[:, 1:first].any()
        assert room[:, first:].square().sum(1)[0] > 0
        energy = room[:, 1:].square().sum(1)
        assert (-10 * torch.log10(energy)).tolist() == pytest.approx([ratio_db] * 2, abs=1e-4)
        late = room[:, first + 801 :]  # behind the early reflections
        left_over = 10 * torch.log10(late.square().flip(1).cumsum(1).flip(1))
        for curve in left_over - left_over[:, :1]:
            spent = [int((curve > level).sum()) / 16000 for level in (-5, -25)]
            assert 3 * (spent[1] - spent[0]) == pytest.approx(seconds, rel=0.15)
        correlation = torch.corrcoef(room[:, first + 1 :])[0, 1]
        assert abs(float(correlation)) < 0.2  # a wide reverberation


# --- compressor, level, polarity and stereo


def test_loud_parts_lose_the_decibels_that_ratio_and_threshold_say() -> None:
    """Steps of 20 dB, long beside attack and release; levels relative to the RMS are +2.96 and -17.04 dB."""
    step = torch.cat([torch.full((1, 8000), 0.05), torch.full((1, 8000), 0.5)], 1) * noise(1, 16000).sign()
    compressor = Compressor((-5, -5), (4, 4), (0.01, 0.01), (0.1, 0.1), keep_level=False)
    made = compressor(step, RATE, rng())
    over = 20 * math.log10(0.5 / float(step.square().mean().sqrt())) + 5
    assert decibels(made[:, 12000:], step[:, 12000:]) == pytest.approx(-over * (1 - 1 / 4), abs=0.01)
    assert torch.equal(made[:, :7900], step[:, :7900])


@pytest.mark.parametrize(("attack", "release"), [(0.02, 0.1), (0.15, 0.05)])
def test_attack_and_release_are_the_times_in_which_the_gain_goes_63_percent_of_its_way(
    attack: float, release: float
) -> None:
    for levels, seconds in (([0.05, 0.5], attack), ([0.5, 0.05], release)):
        wave = torch.tensor(levels).repeat_interleave(8000)[None] * noise(1, 16000).sign()
        compressor = Compressor((-5, -5), (4, 4), (attack, attack), (release, release), keep_level=False)
        gain_db = 20 * torch.log10(compressor(wave, RATE, rng()) / wave)[0]
        way = (gain_db[8000 + round(seconds * RATE)] - gain_db[7990]) / (gain_db[-1] - gain_db[7990])
        assert float(way) == pytest.approx(1 - math.exp(-1), abs=0.03)


def test_a_ratio_of_1_compresses_nothing_and_channels_keep_their_balance() -> None:
    waveform = noise(2, 4000) * torch.tensor([[1.0], [0.1]])
    assert torch.equal(Compressor(ratio=(1, 1), keep_level=False)(waveform, RATE, rng()), waveform)
    made = Compressor(threshold_db=(-20, -20))(waveform, RATE, rng())
    gains = made / waveform
    torch.testing.assert_close(gains[0], gains[1])


@given(st.floats(-1, 1))
def test_pan_keeps_the_power_of_a_centred_source(position: float) -> None:
    centred = noise(1, 500).expand(2, -1)
    made = Pan((position, position))(centred, RATE, rng())
    assert decibels(made, centred) == pytest.approx(0, abs=1e-3)
    left, right = made.square().mean(1).sqrt().tolist()
    assert left >= right - 1e-6 if position <= 0 else right >= left - 1e-6


def test_pan_at_the_ends_leaves_one_channel_and_in_the_centre_both_as_they_are() -> None:
    waveform = noise(2, 500)
    ends = [Pan((x, x))(waveform, RATE, rng()) for x in (-1, 0, 1)]
    torch.testing.assert_close(ends[0], waveform * torch.tensor([[2**0.5], [0]]))
    assert torch.equal(ends[1], waveform)
    torch.testing.assert_close(ends[2], waveform * torch.tensor([[0], [2**0.5]]), atol=1e-7, rtol=1e-5)


@given(st.floats(0, 4))
def test_width_scales_the_side_signal_and_keeps_the_mid_signal(factor: float) -> None:
    waveform = noise(2, 500)
    left, right = Width((factor, factor))(waveform, RATE, rng())
    torch.testing.assert_close(left + right, waveform.sum(0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(left - right, (waveform[0] - waveform[1]) * factor, atol=1e-6, rtol=1e-5)


def test_level_is_uniform_in_decibels_over_its_range() -> None:
    waveform = noise(1, 100)
    found = sorted(decibels(Level((-9, 3))(waveform, RATE, rng(i)), waveform) for i in range(300))
    assert found[0] + 1e-4 >= -9
    assert found[-1] <= 3 + 1e-4
    assert max(b - a for a, b in pairwise([-9, *found, 3])) < 0.5


def test_polarity_twice_and_swapping_twice_change_nothing() -> None:
    waveform = noise(2, 100)
    assert torch.equal(Polarity()(waveform, RATE, rng()), -waveform)
    assert torch.equal(ChannelSwap()(waveform, RATE, rng()), torch.stack([waveform[1], waveform[0]]))
    for effect in (Polarity(), ChannelSwap()):
        assert torch.equal(effect(effect(waveform, RATE, rng()), RATE, rng()), waveform)


# --- configs and bad settings


def test_there_is_a_config_for_every_effect() -> None:
    made = configured(f"effect=[{','.join(CONFIGS)}]")
    assert list(made) == CONFIGS
    assert {type(each.effect) for each in made.values()} == set(KINDS)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_runs_on_mono_or_says_that_it_needs_two_channels(name: str) -> None:
    effects = configured(f"effect={name}", f"effects.{name}.probability=1")
    check_effects(effects, NAMES, channels=2)
    stereo = noise(4, 2, 4000)
    changed = apply_effects(effects, stereo, NAMES, RATE, 0, 0)
    assert not torch.equal(changed[0], stereo[0])
    if effects[name].needs_stereo:
        with pytest.raises(SettingError, match=f"effect={name} needs 2 channels and there are 1: leave {name} out"):
            check_effects(effects, NAMES, channels=1)
    else:
        check_effects(effects, NAMES, channels=1)
        assert not torch.equal(apply_effects(effects, stereo[:, :1], NAMES, RATE, 0, 0)[0], stereo[0, :1])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configs_ranges_are_the_classes_own(name: str) -> None:
    config = (CONFIG_DIR / "effect" / f"{name}.yaml").read_text()
    assert config.startswith(f"# @package effects.{name}\n")
    each = configured(f"effect={name}")[name].effect
    assert vars(each) == vars(type(each)())


def test_effects_are_chosen_together_in_the_order_typed() -> None:
    found = configured("effect=[reverb,eq,pan]", "effects.eq.sources=[drums,bass]", "effects.eq.gain_db=[-1,2]")
    assert list(found) == ["reverb", "eq", "pan"]
    assert found["reverb"].sources == ("vocals",)
    assert found["eq"].sources == ("drums", "bass")
    assert isinstance(found["eq"].effect, EQ)
    assert found["eq"].effect.gain_db == (-1, 2)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Reverb, {"probability": 1.5}, "effects.reverb.probability=1.5 is not allowed: give a number from 0 to 1"),
        (ChannelSwap, {"probability": True}, "effects.channel_swap.probability=True is not allowed"),
        (EQ, {"probability": "often"}, "effects.eq.probability='often' is not allowed"),
        (EQ, {"probability": math.nan}, "effects.eq.probability=nan is not allowed"),
        (EQ, {"sources": "vocals"}, "effects.eq.sources='vocals' is not allowed: give a list of names, or null"),
        (EQ, {"sources": []}, "effects.eq.sources=[] is not allowed"),
        (
            EQ,
            {"gain_db": [3, -3]},
            "effects.eq.gain_db=[3, -3] is not allowed: give [SMALLEST, LARGEST], from -24 to 24",
        ),
        (EQ, {"gain_db": 3}, "effects.eq.gain_db=3 is not allowed"),
        (EQ, {"q": [0.5, math.nan]}, "effects.eq.q=[0.5, nan] is not allowed"),
        (EQ, {"peaks": 1.5}, "effects.eq.peaks=1.5 is not allowed"),
        (EQ, {"keep_level": "no"}, "effects.eq.keep_level='no' is not allowed: give true or false"),
        (Reverb, {"rt60_seconds": [0, 1]}, "effects.reverb.rt60_seconds=[0, 1] is not allowed"),
        (Compressor, {"ratio": [0.5, 2]}, "effects.compressor.ratio=[0.5, 2] is not allowed"),
        (Pan, {"position": [-2, 2]}, "effects.pan.position=[-2, 2] is not allowed"),
        (Width, {"width": ["a", "b"]}, "effects.width.width=['a', 'b'] is not allowed"),
        (Level, {"gain_db": [-1, 0, 1]}, "effects.level.gain_db=[-1, 0, 1] is not allowed"),
    ],
)
def test_a_bad_setting_is_refused_in_a_line_with_its_key(
    kind: Callable[..., Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError) as error:
        PerSource(kind, **settings)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_misspelt_source_is_refused_with_the_name_that_was_meant() -> None:
    with pytest.raises(SettingError, match=r"effects.x.sources has 'vocal', which is no source: did you mean vocals\?"):
        check_effects({"x": PerSource(EQ, ["vocal"])}, NAMES)
    with pytest.raises(SettingError, match="which is no source: choose from drums, bass, or null for all"):
        check_effects({"x": PerSource(EQ, ["vocals"])}, ["drums", "bass"])


def test_what_is_no_effect_is_refused() -> None:
    bare, not_callable = cast(Any, (EQ(), Path))
    with pytest.raises(SettingError, match=r"is no hourglass_sep.data.effects.PerSource: see conf/effect"):
        check_effects({"x": bare}, NAMES)
    with pytest.raises(SettingError, match=r"is no effect: see hourglass_sep.data.effects.Effect"):
        PerSource(not_callable)


@pytest.mark.parametrize("made", [torch.zeros(2, 9), torch.zeros(2, 10).double(), None, np.zeros((2, 10))])
def test_an_effect_that_returns_another_shape_or_type_is_named(made: object) -> None:
    effect = cast(Any, lambda waveform, rate, rng: made)
    effects = {"mine": PerSource(lambda: effect)}
    with pytest.raises(SettingError, match=r"effects.mine returned .*: return a tensor \(2, 10\) torch.float32"):
        apply_effects(effects, noise(1, 2, 10), ["vocals"], RATE, 0, 0)
