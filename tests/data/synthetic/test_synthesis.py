import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from hourglass_sep.audio import resample
from hourglass_sep.data.mir1k import find_clips
from hourglass_sep.data.synthetic.synthesis import PEAK, synthesize_song, write_synthetic_mir1k
from hourglass_sep.dsp.masks import ideal_ratio_mask
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.inference.separator import Separator
from hourglass_sep.scoring.metrics import bss_eval_sources
from hourglass_sep.support.errors import DataError, SettingError

SONGS = {"sopran": 2, "bass": 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "Wavfile").iterdir())}


def test_a_seed_gives_the_same_song_and_another_seed_another() -> None:
    assert torch.equal(synthesize_song(3, 2.0), synthesize_song(3, 2.0))
    assert not torch.equal(synthesize_song(3, 2.0), synthesize_song(4, 2.0))


def test_songs_are_as_hard_as_real_ones(tiny_separator: Separator) -> None:
    """The mixture scores about 0 dB and ideal ratio masks well above 10, as on MIR-1K (14.05 / 13.35)."""
    mixtures, oracles = [], []
    for seed in range(6):
        sources = synthesize_song(seed, 5.0)
        mixture = sources.sum(0)
        spectra = tiny_separator.spectrogram(resample(sources, 16000, 8000))[:, :512]
        oracle = tiny_separator.render(mixture[None, None], 16000, ideal_ratio_mask(spectra[:, None])[None])[0, :, 0]
        mixtures.append(bss_eval_sources(sources, mixture.expand(2, -1)).sdr)
        oracles.append(bss_eval_sources(sources, oracle).sdr)
    assert float(torch.stack(mixtures).abs().max()) < 1
    assert 11 < float(torch.stack(oracles).mean()) < 18
    assert float(torch.stack(oracles).min()) > 9


def test_voice_and_band_are_equally_loud_and_nothing_clips() -> None:
    sources = synthesize_song(5, 3.0)
    energy = sources.square().sum(1)
    assert abs(float(10 * torch.log10(energy[0] / energy[1]))) < 0.01
    assert float(sources.abs().max()) <= PEAK + 1e-6
    assert float(sources.sum(0).abs().max()) <= PEAK + 1e-6


def test_the_voice_is_harmonic_sings_in_phrases_and_rests() -> None:
    """In a phrase the voice repeats itself after a pitch period; between phrases it is 20 dB quieter."""
    voice = synthesize_song(5, 10.0)[1].numpy()
    frames = voice[: len(voice) // 640 * 640].reshape(-1, 640)
    level_db = 10 * np.log10((frames**2).mean(1))
    rests = level_db < level_db.max() - 20
    assert 0.03 < rests.mean() < 0.6
    periodicity = []
    for k in np.flatnonzero(level_db > level_db.max() - 10)[:-2]:
        frame = voice[640 * k : 640 * k + 1280]
        correlation = np.correlate(frame, frame, "full")[1279:]
        periodicity.append(correlation[30:250].max() / correlation[0])  # 64 to 533 Hz
    assert np.median(periodicity) > 0.7


def test_a_set_is_laid_out_as_mir1k_and_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_synthetic_mir1k(tmp_path / name, SONGS, 2, (1.0, 2.0), seed=0)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    clips = find_clips(tmp_path / "first")
    assert [clip.name for clip in clips][:3] == ["bass_1_01", "bass_1_02", "sopran_1_01"]
    assert len(clips) == 6
    lengths = [clip.load().stacked(SOURCES)[:, 0].shape[1] for clip in clips]
    assert min(lengths) >= 16000
    assert max(lengths) <= 32000
    assert len(set(lengths)) > 1


def test_another_singer_does_not_change_the_songs_of_the_others(tmp_path: Path) -> None:
    write_synthetic_mir1k(tmp_path / "few", {"bass": 1}, 1, (1.0, 2.0), seed=0)
    write_synthetic_mir1k(tmp_path / "many", {"alto": 1, "bass": 1}, 1, (1.0, 2.0), seed=0)
    assert contents(tmp_path / "few").items() <= contents(tmp_path / "many").items()


def test_a_set_that_was_cut_short_is_completed_and_a_whole_one_left_alone(tmp_path: Path) -> None:
    paths = write_synthetic_mir1k(tmp_path, SONGS, 1, (1.0, 1.0), seed=0)
    whole = contents(tmp_path)
    paths[1].unlink()
    write_synthetic_mir1k(tmp_path, SONGS, 1, (1.0, 1.0), seed=0)
    assert contents(tmp_path) == whole
    before = [path.stat().st_mtime_ns for path in paths]
    write_synthetic_mir1k(tmp_path, SONGS, 1, (1.0, 1.0), seed=0)
    assert [path.stat().st_mtime_ns for path in paths] == before
    write_synthetic_mir1k(tmp_path, SONGS, 1, (1.0, 1.0), seed=1)
    assert not contents(tmp_path).items() & whole.items()
    write_synthetic_mir1k(tmp_path, {"bass": 1}, 1, (1.0, 1.0), seed=1)
    assert list(contents(tmp_path)) == ["bass_1_01.wav"]


def test_real_clips_are_never_mixed_with_made_up_ones(tiny_mir1k: Path) -> None:
    before = contents(tiny_mir1k)
    with pytest.raises(DataError, match=r"data\.root"):
        write_synthetic_mir1k(tiny_mir1k, SONGS, 1, (1.0, 1.0), seed=0)
    assert contents(tiny_mir1k) == before


@pytest.mark.parametrize(
    ("seconds", "rate", "words"), [(0.5, 16000, "seconds=0.5"), (2.0, 4000, "sample_rate_hz=4000")]
)
def test_a_song_that_cannot_be_made_is_refused(seconds: float, rate: int, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        synthesize_song(0, seconds, rate)


MAKER = """
import os, sys, time
from pathlib import Path
from hourglass_sep.data.synthetic.synthesis import write_synthetic_mir1k
root, seed, clips, stay = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
from hourglass_sep.support.errors import UserError
try:
    write_synthetic_mir1k(root, {"sopran": 2, "bass": 1}, clips, (1.0, 1.0), seed)
except UserError as error:
    sys.exit(f"error: {error}")
print("made", flush=True)
time.sleep(stay)
"""


def maker(root: Path, seed: int, clips: int = 2, stay: float = 0.0) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", MAKER, str(root), str(seed), str(clips), str(stay)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_makers_of_one_set_wait_for_each_other_and_of_others_are_refused_while_it_is_used(tmp_path: Path) -> None:
    write_synthetic_mir1k(tmp_path / "alone", SONGS, 2, (1.0, 1.0), seed=0)
    root = tmp_path / "set"
    makers = [maker(root, 0, stay=40), maker(root, 0)]
    first, second = makers[0], makers[1]
    assert second.wait(60) == 0, second.communicate()
    assert first.stdout is not None
    assert first.stdout.readline() == "made\n"
    other = maker(root, 1)
    assert other.wait(60) == 1
    assert re.search(r"in use by another process, .*data\.root", other.communicate()[1])
    assert contents(root) == contents(tmp_path / "alone")
    first.kill()
    first.wait()
    free = maker(root, 1)  # nobody uses the set any more
    assert free.wait(60) == 0
    assert not contents(root).items() & contents(tmp_path / "alone").items()


@pytest.mark.slow
def test_what_a_killed_maker_left_is_completed_by_its_like_and_replaced_by_another(tmp_path: Path) -> None:
    for seed in (0, 1):
        root = tmp_path / f"set{seed}"
        killed = maker(root, 0, clips=40)
        while len(list((root / "Wavfile").glob("*.wav"))) < 5:
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
        killed.wait()
        write_synthetic_mir1k(root, SONGS, 2, (1.0, 1.0), seed=seed)
        write_synthetic_mir1k(tmp_path / f"clean{seed}", SONGS, 2, (1.0, 1.0), seed=seed)
        assert contents(tmp_path / f"clean{seed}").items() <= contents(root).items()
        assert json.loads((root / "synthetic.json").read_text())["seed"] == seed
