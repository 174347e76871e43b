import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hourglass_sep.data.augment import NoAugmentation, Remix
from hourglass_sep.data.effects import PerSource, Polarity
from hourglass_sep.data.mir1k_datamodule import Mir1kDataModule
from hourglass_sep.data.patches import GlobalSampler, PatchSpectrograms, RandomPatches
from hourglass_sep.data.store import MemoryStore
from hourglass_sep.dsp.scale import FLOOR
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.support.errors import SettingError, UserError

STFT = Spectrogram()


def clips(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(2, length, generator=generator) for length in lengths]


class Drawn:
    """Patches one by one, with the spectrograms that a batch of one gets."""

    def __init__(self, patches: RandomPatches, target: str) -> None:
        self.patches = patches
        self.spectrograms = PatchSpectrograms(STFT, target)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """The mixture (1, F, T) and the targets (S, F, T) of a mono patch."""
        made = self.spectrograms(torch.utils.data.default_collate([self.patches[index]]))
        return {"mixture": made["mixture"][0], "targets": made["targets"][0, :, 0]}


def patches(
    waveforms: list[torch.Tensor], scale: str = "window", target: str = "magnitude", **settings: object
) -> Drawn:
    return Drawn(RandomPatches(waveforms, STFT, 64, scale, **settings), target)  # type: ignore[arg-type]


def whole(clip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnitudes of the mixture (1, F, T) and of the sources (S, F, T) of a clip."""
    return STFT.magnitude(STFT(clip.sum(0, keepdim=True))), STFT.magnitude(STFT(clip))


def place(patch: torch.Tensor, spectrogram: torch.Tensor) -> int:
    """The frame at which a patch (up to its scale) was cut from a spectrogram (1, F, T)."""
    fits = [
        float(torch.nn.functional.cosine_similarity(patch.flatten(), spectrogram[..., t : t + 64].flatten(), 0))
        for t in range(spectrogram.shape[-1] - 63)
    ]
    assert max(fits) > 0.9999
    return int(np.argmax(fits))


@pytest.mark.parametrize("scale", ["window", "clip"])
def test_a_patch_is_64_frames_of_a_clips_own_spectrogram(scale: str) -> None:
    (clip,) = clips(40000)
    mixture, sources = whole(clip)
    drawn = patches([clip], scale)
    for i in range(4):
        patch = drawn[i]
        assert patch["mixture"].shape == (1, 512, 64)
        assert patch["targets"].shape == (2, 512, 64)
        start = place(patch["mixture"], mixture)
        scope = mixture[..., start : start + 64] if scale == "window" else mixture
        divisor = scope.max()
        torch.testing.assert_close(patch["mixture"] * divisor, mixture[..., start : start + 64], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(patch["targets"] * divisor, sources[..., start : start + 64], atol=1e-4, rtol=1e-4)


def test_every_place_of_a_clip_is_drawn_its_ends_included() -> None:
    (clip,) = clips(20000)  # 79 frames: 16 places
    mixture = whole(clip)[0]
    drawn = patches([clip])
    assert {place(drawn[i]["mixture"], mixture) for i in range(150)} == set(range(16))


def test_patch_i_follows_from_seed_and_i_alone() -> None:
    waveforms = clips(30000, 40000, 35000)
    first, second = patches(waveforms, augment=Remix(), seed=1), patches(waveforms, augment=Remix(), seed=1)
    expected = {i: first[i]["mixture"] for i in (0, 5, 900)}
    for i in (900, 0, 5):
        assert torch.equal(second[i]["mixture"], expected[i])
    other_seed = patches(waveforms, augment=Remix(), seed=2)
    assert not torch.equal(other_seed[5]["mixture"], expected[5])
    assert not torch.equal(expected[0], expected[5])


def test_without_augmentation_the_loudness_of_the_sources_is_the_clips() -> None:
    waveforms = clips(30000)
    waveforms[0][1] *= 3
    for i in range(5):
        energy = patches(waveforms, augment=NoAugmentation())[i]["targets"].square().sum((1, 2))
        assert float(energy[1] / energy[0]) == pytest.approx(9, rel=0.1)


@pytest.mark.parametrize("scale", ["window", "clip"])
def test_remixing_takes_voice_and_accompaniment_from_different_clips_at_random_levels(scale: str) -> None:
    """Clip k holds sines at 400 + 500 k Hz (accompaniment) and 600 + 500 k Hz (voice)."""
    time = torch.arange(30000) / 8000
    waveforms = [
        torch.stack([torch.sin(2 * torch.pi * (400 + 200 * s + 500 * k) * time) for s in range(2)]) for k in range(6)
    ]
    drawn = patches(waveforms, scale, augment=Remix(probability=1.0, gain_db=5.0))
    pairs, levels = [], []
    for i in range(150):
        targets = drawn[i]["targets"]
        peaks = targets.mean(-1).argmax(-1) * 8000 / 1024
        pairs.append(tuple(round(float(peak - 400 - 200 * s) / 500) for s, peak in enumerate(peaks)))
        energy = targets.square().sum((1, 2))
        levels.append(float(10 * torch.log10(energy[1] / energy[0])))
    assert 0.7 < np.mean([a != b for a, b in pairs]) < 0.95  # 5 / 6 of them on average
    assert {a for a, _ in pairs} == {b for _, b in pairs} == set(range(6))
    assert max(np.abs(levels)) < 10.5
    assert np.std(levels) == pytest.approx(10 / np.sqrt(6), rel=0.2)  # a difference of two uniform ones


class LoudVocals:
    """An augmentation of a user's own."""

    def partner(self, rng: np.random.Generator, clip: int, n_clips: int) -> int:
        return (clip + 1) % n_clips

    def speed(self, rng: np.random.Generator) -> float:
        return 1.0

    def gains(self, rng: np.random.Generator, n_sources: int) -> np.ndarray:
        return np.array([0.0, 2.0], dtype=np.float32)


def test_an_augmentation_is_any_object_with_its_methods() -> None:
    drawn = RandomPatches(clips(40000, 30000), STFT, 64, "window", LoudVocals())
    accompaniment, vocals = drawn[0]["sources"]
    assert not accompaniment.any()
    assert vocals.any()


@pytest.mark.parametrize(
    ("method", "value", "words"),
    [
        ("partner", 7, "augment.partner returned 7: return a clip's number, 0 to 1"),
        ("partner", -1, "augment.partner returned -1"),
        ("gains", np.ones(3), r"augment.gains returned shape \(3,\): return \(2,\)"),
        ("speed", 0, "augment.speed returned 0: return a number above 0"),
    ],
)
def test_a_draw_that_is_not_possible_is_named(method: str, value: object, words: str) -> None:
    augment = LoudVocals()
    setattr(augment, method, lambda *_: value)
    with pytest.raises(SettingError, match=words):
        _ = RandomPatches(clips(40000, 30000), STFT, 64, "window", augment)[0]


@pytest.mark.parametrize("augment", [LoudVocals, object(), "remix"])
def test_what_is_no_augmentation_is_named(augment: object) -> None:
    with pytest.raises(SettingError, match=r"augment=.* has no method partner"):
        RandomPatches(clips(40000), STFT, 64, "window", augment)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", ["window", "clip"])
def test_a_random_speed_moves_all_pitches_of_a_clip_by_the_same_semitones(scale: str) -> None:
    time = torch.arange(40000) / 8000
    waveforms = [torch.stack([torch.sin(2 * torch.pi * f * time) for f in (1000, 1500)])]
    drawn = patches(waveforms, scale, augment=Remix(probability=0, gain_db=0, semitones=3))
    moves = []
    for i in range(60):
        peaks = drawn[i]["targets"].mean(-1).argmax(-1) * 8000 / 1024
        assert float(peaks[1] / peaks[0]) == pytest.approx(1.5, rel=0.015)
        moves.append(12 * float(torch.log2(peaks[0] / 1000)))
    assert -3.2 < min(moves) < -2.3
    assert 2.3 < max(moves) < 3.2
    assert np.std(moves) == pytest.approx(6 / np.sqrt(12), rel=0.25)


def test_the_datamodule_makes_the_targets_that_it_was_asked_for(tiny_mir1k: Path) -> None:
    plain, in_phase = (Mir1kDataModule(tiny_mir1k, STFT, target=name) for name in ("magnitude", "phase_sensitive"))
    batch = torch.utils.data.default_collate([plain.patches()[0]])
    targets = [module.on_after_batch_transfer(batch, 0)["targets"] for module in (plain, in_phase)]
    assert bool((targets[1] <= targets[0] + 1e-6).all())
    assert not torch.equal(*targets)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="counts the cores that a process may use")
def test_loader_processes_leave_a_core_to_the_training(tiny_mir1k: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    wanted = {0: 0, 1: 1, 999: max(1, cores - 1)}
    for number, started in wanted.items():
        assert Mir1kDataModule(tiny_mir1k, STFT, num_workers=number).train_dataloader().num_workers == started


def test_the_mixture_is_the_sum_of_what_the_targets_are_taken_from() -> None:
    """Sources an octave apart: the magnitude of their sum is the larger of the two nearly everywhere."""
    time = torch.arange(30000) / 8000
    waveforms = [torch.stack([torch.sin(2 * torch.pi * f * time) for f in (1000, 2000)]) for _ in range(2)]
    for i in range(10):
        patch = patches(waveforms, augment=Remix())[i]
        torch.testing.assert_close(patch["mixture"][0], patch["targets"].amax(0), atol=0.01, rtol=0)


def test_phase_sensitive_targets_are_the_part_in_phase_with_the_mixture() -> None:
    (clip,) = clips(64 * 256 + 1024)
    clip[1] = 0.7 * clip[0].roll(3)
    plain, in_phase = patches([clip]), patches([clip], target="phase_sensitive")
    mixture, targets = in_phase[3]["mixture"], in_phase[3]["targets"]
    assert torch.equal(plain[3]["mixture"], mixture)
    assert float(targets.min()) >= 0
    assert bool((targets <= mixture + 1e-6).all())
    assert bool((targets <= plain[3]["targets"] + 1e-6).all())
    unclamped = (targets > 1e-6).all(0) & (targets < mixture - 1e-6).all(0)
    assert float(unclamped.float().mean()) > 0.3
    torch.testing.assert_close(targets.sum(0)[unclamped], mixture[0][unclamped], atol=1e-4, rtol=1e-4)


def test_a_short_clip_ends_in_silence_and_a_silent_one_stays_finite() -> None:
    patch = patches(clips(8000))[0]
    assert patch["mixture"].shape == (1, 512, 64)
    assert float(patch["mixture"][..., 40:].max()) == 0
    silent = patches([torch.zeros(2, 30000)])[0]
    assert float(silent["mixture"].abs().max()) == 0


def test_the_loudest_cell_of_a_window_is_one() -> None:
    assert float(patches(clips(30000))[0]["mixture"].max()) == pytest.approx(1.0)
    faint = patches([torch.full((2, 30000), 0.01 * FLOOR / 1024)])[0]
    assert float(faint["mixture"].max()) < 0.1


@pytest.mark.parametrize("scale", ["window", "clip"])
def test_patches_of_a_batch_do_not_touch_each_other(scale: str) -> None:
    waveforms = clips(30000, 40000)
    waveforms[1] *= 10
    drawn = patches(waveforms, scale, augment=Remix(), target="phase_sensitive")
    batch = drawn.spectrograms(torch.utils.data.default_collate([drawn.patches[i] for i in range(6)]))
    for i in range(6):
        torch.testing.assert_close(batch["mixture"][i], drawn[i]["mixture"])
        torch.testing.assert_close(batch["targets"][i, :, 0], drawn[i]["targets"])


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_global_batches_do_not_depend_on_the_number_of_devices(world_size: int) -> None:
    ranks = [iter(GlobalSampler(3, 4, rank, world_size)) for rank in range(world_size)]
    for step in range(3):
        batch = [next(rank) for rank in ranks for _ in range(4 // world_size)]
        assert sorted(batch) == list(range(4 * step, 4 * step + 4))
    assert [list(rank) for rank in ranks] == [[]] * world_size


def test_a_later_pass_goes_on_where_the_run_stands() -> None:
    assert list(GlobalSampler(2, 4, 1, 2, steps_done=lambda: 10)) == [42, 43, 46, 47]


def test_a_batch_that_does_not_divide_by_the_devices_is_refused(tiny_mir1k) -> None:
    with pytest.raises(UserError, match=r"data\.batch_size=4 .* multiple of 3"):
        Mir1kDataModule(tiny_mir1k, STFT).check(devices=3)


def test_synthetic_clips_train_beside_the_real_ones_at_the_networks_rate(tiny_mir1k: Path) -> None:
    plain, more = (Mir1kDataModule(tiny_mir1k, STFT, synthetic_clips=n) for n in (0, 3))
    real, all_clips = (
        [
            torch.stack([store.read(clip, s, 0, store.n_samples(clip))[0] for s in range(2)])
            for clip in range(len(store))
        ]
        for store in (plain.patches().store, more.patches().store)
    )
    assert len(all_clips) == len(real) + 3
    for clip, other in zip(real, all_clips, strict=False):
        assert torch.equal(clip, other)
    for clip in all_clips[-3:]:
        assert clip.shape == (2, 8 * 8000)  # at the network's rate
        energy = clip.square().sum(1)
        assert float(energy[0]) == pytest.approx(float(energy[1]), rel=0.01)
    assert not torch.equal(all_clips[-1], all_clips[-2])
    slow = Spectrogram(4000, 512, 128, 256)
    with pytest.raises(SettingError, match=r"audio\.sample_rate_hz=4000 .* data\.synthetic_clips: give 8000"):
        Mir1kDataModule(tiny_mir1k, slow, synthetic_clips=3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: patches([]), "no clips"),
        (lambda: patches(clips(9000), target="mask"), "data.target='mask'"),
        (lambda: Remix(probability=2), "augment.probability=2"),
        (lambda: Remix(gain_db=-1), "augment.gain_db=-1"),
        (lambda: Remix(semitones=-1), "augment.semitones=-1"),
        (lambda: Remix(semitones=25), "augment.semitones=25"),
        (lambda: Remix(semitones="abc"), "augment.semitones=abc"),  # type: ignore[arg-type]
        (lambda: Mir1kDataModule(".", STFT, synthetic_clips=-1), "data.synthetic_clips=-1"),
        (lambda: Mir1kDataModule(".", STFT, batch_size=0), "data.batch_size=0"),
        (lambda: Mir1kDataModule(".", STFT, steps_per_epoch=1.5), "data.steps_per_epoch=1.5"),
    ],
)
def test_settings_out_of_range_are_named(make, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        make()


def test_sources_are_in_the_order_of_the_channels() -> None:
    assert SOURCES == ("accompaniment", "vocals")  # left, right


FOUR = ("vocals", "drums", "bass", "other")


def sines(n_clips: int, n_sources: int, channels: int = 1) -> list[torch.Tensor]:
    """Clips (S, C, N): source s of clip k is a sine at 300 + 400 s + 100 k Hz."""
    time = torch.arange(30000) / 8000
    return [
        torch.stack([torch.sin(2 * torch.pi * (300 + 400 * s + 100 * k) * time) for s in range(n_sources)])[:, None]
        .expand(-1, channels, -1)
        .clone()
        for k in range(n_clips)
    ]


def clip_of(waveform: torch.Tensor, source: int) -> int:
    """The number of the clip of `sines` that a source's waveform (N) was cut from."""
    peak = float(torch.fft.rfft(waveform).abs().argmax()) * 8000 / len(waveform)
    return round((peak - 300 - 400 * source) / 100)


def test_four_sources_are_remixed_from_as_many_clips_each_with_its_own_name_and_gain() -> None:
    drawn = RandomPatches(sines(4, 4), STFT, 64, "window", Remix(probability=1.0), sources=FOUR)
    found = {tuple(clip_of(sound[0], s) for s, sound in enumerate(drawn[i]["sources"])) for i in range(40)}
    assert {len(set(clips)) for clips in found} >= {2, 3, 4}
    whole = RandomPatches(sines(4, 4), STFT, 64, "window", sources=FOUR)
    assert all(len({clip_of(sound[0], s) for s, sound in enumerate(whole[i]["sources"])}) == 1 for i in range(10))


def test_a_clip_is_drawn_as_often_as_its_weight_says() -> None:
    drawn = RandomPatches(sines(3, 2), STFT, 64, "window", weights=[1, 0, 3])
    counts = np.bincount([clip_of(drawn[i]["sources"][0, 0], 0) for i in range(200)], minlength=3)
    assert counts[1] == 0
    assert counts[2] / counts[0] == pytest.approx(3, rel=0.4)
    with pytest.raises(SettingError, match="weights"):
        RandomPatches(sines(2, 2), STFT, 64, "window", weights=[0, 0])


class Lacking(MemoryStore):
    """Clips of which the first has no vocals, and the second has vocals only."""

    def has(self, clip: int, source: int) -> bool:
        return (clip, source) not in ((0, 1), (1, 0))

    def read(self, clip: int, source: int, start: int, stop: int) -> torch.Tensor:
        assert self.has(clip, source)
        return super().read(clip, source, start, stop)


def test_a_source_that_a_clip_lacks_comes_from_a_clip_that_has_it() -> None:
    drawn = RandomPatches(Lacking(sines(3, 2)), STFT, 64, "window")
    pairs = {tuple(clip_of(sound[0], s) for s, sound in enumerate(drawn[i]["sources"])) for i in range(60)}
    assert pairs >= {(2, 2), (0, 1), (2, 1), (0, 2)}
    assert all(accompaniment != 1 and vocals != 0 for accompaniment, vocals in pairs)


def test_a_source_that_no_clip_has_is_named() -> None:
    with pytest.raises(SettingError, match="no clip to train on has the source vocals"):
        RandomPatches(Lacking(sines(1, 2)), STFT, 64, "window")


@pytest.mark.parametrize("stereo", ["mid_side", "left_right"])
def test_stereo_patches_have_a_spectrogram_a_channel_on_one_scale(stereo: str) -> None:
    stft = Spectrogram(channels=2, stereo=stereo)
    (clip,) = sines(1, 2, channels=2)
    clip[:, 1] *= 0.5
    batch = torch.utils.data.default_collate([RandomPatches([clip], stft, 64, "window")[0]])
    made = PatchSpectrograms(stft)(batch)
    assert made["mixture"].shape == (1, 2, 512, 64)
    assert made["targets"].shape == (1, 2, 2, 512, 64)
    loud, quiet = made["mixture"][0].amax((1, 2))
    assert float(made["mixture"].max()) == pytest.approx(1)
    assert float(quiet / loud) == pytest.approx(1 / 3 if stereo == "mid_side" else 1 / 2, rel=1e-3)


def test_two_equal_channels_give_the_patches_of_one() -> None:
    stft = Spectrogram(channels=2)
    mono = PatchSpectrograms(STFT)({"sources": torch.stack([sines(1, 2)[0][..., :17152]])})
    stereo = PatchSpectrograms(stft)({"sources": torch.stack([sines(1, 2, channels=2)[0][..., :17152]])})
    torch.testing.assert_close(stereo["targets"][:, :, :1], mono["targets"])
    assert not stereo["targets"][:, :, 1].any()


def test_effects_change_the_sources_that_they_are_for_and_no_other_draw() -> None:
    plain = RandomPatches(sines(3, 2), STFT, 64, "window", Remix())
    effects = {"polarity": PerSource(Polarity, sources=["vocals"], probability=1.0)}
    changed = RandomPatches(sines(3, 2), STFT, 64, "window", Remix(), effects=effects)
    for i in range(5):
        accompaniment, vocals = plain[i]["sources"]
        torch.testing.assert_close(changed[i]["sources"], torch.stack([accompaniment, -vocals]))
