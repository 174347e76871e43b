import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

from hourglass_sep import audio
from hourglass_sep.data.cache import CachedClip
from hourglass_sep.data.clips import Clip, Part
from hourglass_sep.data.store import CachedStore, open_store
from hourglass_sep.support.errors import DataError, FileError
from tests.helpers.stems import noise, write_clip

SOURCES = ["vocals", "accompaniment"]


def cached(clip: Clip, folder: Path, rate: int = 8000, channels: int = 1) -> torch.Tensor:
    store = open_store([clip], SOURCES, rate, channels, folder)
    return whole(store)


def whole(store: CachedStore, clip: int = 0) -> torch.Tensor:
    return torch.stack([store.read(clip, source, 0, store.n_samples(clip)) for source in range(len(SOURCES))])


def loaded(clip: Clip, rate: int) -> torch.Tensor:
    stems = clip.load()
    return audio.resample(stems.stacked(SOURCES), stems.sample_rate_hz, rate)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("channels", [1, 2])
def test_16_bit_files_at_the_networks_rate_are_kept_exactly(channels: int, tmp_path: Path) -> None:
    stems = {name: noise(channels, 150_000, seed=seed, peak=1.0) for seed, name in enumerate(SOURCES)}
    clip = write_clip(tmp_path / "set", "song", stems)
    assert torch.equal(cached(clip, tmp_path / "cache", channels=channels), torch.stack(list(stems.values())))


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 8000), (8000, 11025)])
def test_other_rates_are_those_of_the_resampled_clip(from_hz: int, to_hz: int, tmp_path: Path) -> None:
    stems = {name: noise(1, 100_001, seed=seed) for seed, name in enumerate(SOURCES)}
    clip = write_clip(tmp_path / "set", "song", stems, from_hz)
    torch.testing.assert_close(cached(clip, tmp_path / "cache", to_hz), loaded(clip, to_hz), atol=1e-4, rtol=0)


@pytest.mark.parametrize("peak", [5.0, 1.0, 1e-4])
def test_float_files_keep_their_precision_whether_loud_or_quiet(peak: float, tmp_path: Path) -> None:
    stems = {name: peak * torch.rand(1, 9000) for name in SOURCES}
    clip = write_clip(tmp_path / "set", "song", stems, subtype="FLOAT")
    found = cached(clip, tmp_path / "cache")
    torch.testing.assert_close(found, torch.stack(list(stems.values())), atol=peak / 32767, rtol=0)


def test_a_source_of_several_parts_is_their_sum(tmp_path: Path) -> None:
    parts = {name: noise(1, 9000, seed=seed, peak=0.9) for seed, name in enumerate(("vocals", "bass", "drums"))}
    clip = write_clip(tmp_path / "set", "song", parts)
    both = (*clip.stems["bass"], *clip.stems["drums"])
    found = cached(Clip("song", "", {"vocals": clip.stems["vocals"], "accompaniment": both}), tmp_path / "cache")
    torch.testing.assert_close(found[1], parts["bass"] + parts["drums"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("of_clip", "of_network", "expected"),
    [
        (2, 1, lambda waveform: waveform.mean(0, keepdim=True)),
        (1, 2, lambda waveform: waveform.expand(2, -1)),
        (6, 2, lambda waveform: waveform.mean(0, keepdim=True).expand(2, -1)),
    ],
)
def test_channels_become_the_networks(of_clip: int, of_network: int, expected, tmp_path: Path) -> None:
    stems = {name: noise(of_clip, 9000, seed=seed) for seed, name in enumerate(SOURCES)}
    clip = write_clip(tmp_path / "set", "song", stems)
    found = cached(clip, tmp_path / "cache", channels=of_network)
    assert found.shape == (2, of_network, 9000)
    torch.testing.assert_close(found[0], expected(stems["vocals"]), atol=1e-4, rtol=0)


def test_channels_of_one_file_can_be_stems(tmp_path: Path) -> None:
    both = noise(2, 9000)
    soundfile.write(tmp_path / "song.wav", both.T.numpy(), 8000)
    stems = {"accompaniment": [Part(tmp_path / "song.wav", None, 0)], "vocals": [Part(tmp_path / "song.wav", None, 1)]}
    found = cached(Clip("song", "", stems), tmp_path / "cache")
    assert torch.equal(found[:, 0], both.flip(0))


def test_files_are_safetensors_without_silent_sources(tmp_path: Path) -> None:
    stems = {"vocals": torch.zeros(0, 0), "accompaniment": noise(1, 9000)}
    clip = write_clip(tmp_path / "set", "song", stems)
    found = cached(clip, tmp_path / "cache")
    (path,) = (tmp_path / "cache" / "8000hz_1ch").iterdir()
    tensors = safetensors.torch.load_file(path)
    assert tensors.keys() == {"accompaniment"}
    assert torch.equal(tensors["accompaniment"].T / 2**15, stems["accompaniment"])
    assert found[0].count_nonzero() == 0


def test_any_part_of_a_stem_can_be_read_and_nothing_beyond(tmp_path: Path) -> None:
    stems = {name: noise(2, 9000, seed=seed) for seed, name in enumerate(SOURCES)}
    store = open_store([write_clip(tmp_path / "set", "song", stems)], SOURCES, 8000, 2, tmp_path / "cache")
    for start, stop in ((0, 9000), (1, 8999), (4097, 4098), (9000, 9000), (17, 17)):
        found = store.read(0, 1, start, stop)
        assert found.is_contiguous()
        assert torch.equal(found, stems["accompaniment"][:, start:stop])
    for start, stop in ((-1, 5), (0, 9001), (5, 4)):
        with pytest.raises(ValueError, match="9000"):
            store.read(0, 0, start, stop)


def test_reading_maps_a_part_and_leaves_nothing_mapped(tmp_path: Path) -> None:
    stems = {name: noise(1, 2_000_000, seed=seed) for seed, name in enumerate(SOURCES)}
    store = open_store([write_clip(tmp_path / "set", "song", stems)], SOURCES, 8000, 1, tmp_path / "cache")
    store.read(0, 0, 0, 1)
    tracemalloc.start()
    store.read(0, 1, 1_000_000, 1_010_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(tmp_path / "cache") not in maps.read_text()


def test_a_file_that_is_replaced_or_removed_while_in_use_is_said_so(tmp_path: Path) -> None:
    stems = {name: noise(1, 9000, seed=seed) for seed, name in enumerate(SOURCES)}
    clip = write_clip(tmp_path / "set", "song", stems)
    store = open_store([clip], SOURCES, 8000, 1, tmp_path / "cache")
    write_clip(tmp_path / "set", "song", stems | {"vocals": noise(1, 9000, seed=9)})
    again = open_store([clip], SOURCES, 8000, 1, tmp_path / "cache")
    with pytest.raises(DataError, match="replaced while in use"):
        store.read(0, 0, 0, 100)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(DataError, match="removed"):
        again.read(0, 0, 0, 100)


@pytest.mark.parametrize("damage", ["cut", "emptied", "text"])
def test_a_damaged_file_is_made_again(damage: str, tmp_path: Path) -> None:
    stems = {name: noise(1, 9000, seed=seed) for seed, name in enumerate(SOURCES)}
    clip = write_clip(tmp_path / "set", "song", stems)
    before = cached(clip, tmp_path / "cache")
    (path,) = (tmp_path / "cache" / "8000hz_1ch").iterdir()
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-2], "emptied": b"", "text": json.dumps({"a": 1}).encode() * 99}[damage])
    assert CachedClip.find(path) is None
    assert torch.equal(cached(clip, tmp_path / "cache"), before)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    clip = write_clip(tmp_path / "set", "song", {name: noise(1, 90_000) for name in SOURCES})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(FileError, match=r"cannot be written to .*make room$") as caught:
            open_store([clip], SOURCES, 8000, 1, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert [path for path in files(tmp_path / "cache") if path.suffix != ".lock"] == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "set", "song", {name: noise(1, 900) for name in SOURCES})
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(FileError, match="cannot be written to"):
        open_store([clip], SOURCES, 8000, 1, tmp_path / "cache")


def test_random_reads_are_those_of_the_array(tmp_path: Path) -> None:
    stems = {name: noise(2, 100_000, seed=seed) for seed, name in enumerate(SOURCES)}
    store = open_store([write_clip(tmp_path / "set", "song", stems)], SOURCES, 8000, 2, tmp_path / "cache")
    rng = np.random.default_rng(0)
    for source, name in enumerate(SOURCES):
        for start in rng.integers(0, 90_000, 30):
            assert torch.equal(store.read(0, source, start, start + 5000), stems[name][:, start : start + 5000])
