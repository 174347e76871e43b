import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hourglass_sep.data.clips import Clip, Part, Split
from hourglass_sep.data.mir1k import Mir1k, Mir1kClip, find_clips, split_clips
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.support.errors import DataError, SettingError

TRAIN_SINGERS = ["abjones", "amy"]
VALIDATION_SONGS = ["abjones_5", "amy_9", "amy_16"]
NAMES = ["abjones_1_01", "abjones_5_01", "amy_1_01", "amy_16_02", "amy_9_12", "amy_91_1", "bug_5_01", "Kenshin_1_04"]
CLIPS = [Mir1kClip(name, name.split("_")[0], {"vocals": [Part(Path(f"{name}.wav"), channel=1)]}) for name in NAMES]


def split(name: str, clips: Sequence[Mir1kClip] = CLIPS) -> Split:
    return split_clips(clips, name, TRAIN_SINGERS, VALIDATION_SONGS)


def names(clips: Sequence[Clip]) -> list[str]:
    return [clip.name for clip in clips]


def test_standard_split_sets_three_songs_aside() -> None:
    assert names(split("standard").train) == ["abjones_1_01", "amy_1_01", "amy_91_1"]
    assert names(split("standard").validation) == ["abjones_5_01", "amy_16_02", "amy_9_12"]


def test_cross_singer_split_trains_on_amy_and_validates_on_abjones() -> None:
    assert {clip.group for clip in split("cross_singer").train} == {"amy"}
    assert {clip.group for clip in split("cross_singer").validation} == {"abjones"}


def test_split_all_trains_on_every_clip_of_the_training_singers() -> None:
    assert names(split("all").train) == NAMES[:6]
    assert split("all").validation == []


@pytest.mark.parametrize("name", ["standard", "cross_singer", "all"])
def test_every_split_has_the_same_test_clips_and_shares_no_clip(name: str) -> None:
    parts = split(name)
    assert names(parts.test) == ["bug_5_01", "Kenshin_1_04"]
    assert sorted(names(parts.train + parts.validation + parts.test)) == sorted(NAMES)


def test_a_singer_on_both_sides_stops_the_program() -> None:
    with pytest.raises(DataError, match="the group abjones is on both sides"):
        Split(train=[*CLIPS[:1]], validation=[], test=[*CLIPS[1:2]])
    with pytest.raises(DataError, match="the clip abjones_1_01 is on both sides"):
        Split(train=[*CLIPS[:1]], validation=[*CLIPS[:1]], test=[])


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(SettingError, match=r"data\.split='official'.*cross_singer"):
        split("official")


def test_real_split_is_the_one_that_its_authors_list(mir1k_root: Path) -> None:
    parts = split("standard", find_clips(mir1k_root))
    assert (len(parts.train), len(parts.validation)) == (149, 26)
    with (mir1k_root / "splits.csv").open() as file:
        listed = {row["clip"]: row["split"] for row in csv.DictReader(file)}
    assert {listed[clip.name] for clip in parts.train + parts.validation} == {"train"}
    assert {listed[clip.name] for clip in parts.test} == {"test"}


def test_real_clips_are_two_sources_at_zero_db(mir1k_root: Path) -> None:
    for clip in find_clips(mir1k_root)[::80]:
        sources = clip.load().stacked(SOURCES)[:, 0]
        assert sources.shape[0] == 2
        assert 3 * 16000 <= sources.shape[1] <= 13 * 16000
        energy = sources.square().sum(1)
        assert abs(float(10 * torch.log10(energy[0] / energy[1]))) < 0.1


def test_clips_are_found_in_wavfile_or_beside_it_sorted_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "Wavfile").mkdir()
    for name in ("b_1_02.wav", "b_1_01.wav", "._b_1_01.wav", "readme.txt", "mix.wav"):
        (tmp_path / "Wavfile" / name).touch()
    assert names(find_clips(tmp_path)) == names(find_clips(tmp_path / "Wavfile")) == ["b_1_01", "b_1_02"]


def test_missing_data_says_where_it_looked_how_to_get_it_and_what_needs_none(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        find_clips(tmp_path / "nowhere")
    for words in (str(tmp_path / "nowhere" / "Wavfile"), "HOURGLASS_DATA_DIR", "mir-1k", "data=synthetic"):
        assert words in str(caught.value)


NOISE = np.random.default_rng(0).normal(0, 0.1, (16000, 2))


@pytest.mark.parametrize(
    ("samples", "rate", "words"),
    [
        (NOISE[:, 0], 16000, "1 channel"),
        (NOISE, 44100, "44100 Hz"),
        (NOISE * [1, 0], 16000, "silent in its vocals channel"),
        (NOISE * [0, 1], 16000, "silent in its accompaniment channel"),
        (NOISE * [np.nan, 1], 16000, "NaN"),
        (NOISE[:0], 16000, "no samples"),
    ],
)
def test_a_clip_that_is_not_mir1ks_is_named(samples: np.ndarray, rate: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "amy_1_01.wav"
    soundfile.write(path, samples, rate, "FLOAT")
    with pytest.raises(DataError, match=words) as caught:
        find_clips(tmp_path)[0].load()
    assert str(path) in str(caught.value)
    assert "MIR-1K" in str(caught.value)


def test_the_channels_are_the_sources_in_the_order_that_was_asked_for(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "amy_1_01.wav", NOISE, 16000, "FLOAT")
    for sources in (["accompaniment", "vocals"], ["vocals", "accompaniment"], ["mix=vocals+accompaniment"]):
        catalogue = Mir1k(tmp_path, sources=sources)
        assert catalogue.sources == tuple(source.partition("=")[0] for source in sources)
        (clip,) = catalogue.split().train
        found = clip.load().stacked(catalogue.sources)[:, 0].numpy()
        expected = {"accompaniment": NOISE[:, 0], "vocals": NOISE[:, 1], "mix": NOISE.sum(1)}
        np.testing.assert_allclose(found, [expected[source] for source in catalogue.sources], atol=1e-6)
    with pytest.raises(SettingError, match="sources has drums, which MIR-1K does not"):
        Mir1k(tmp_path, sources=["drums"])
