import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hourglass_sep import audio
from hourglass_sep.data import cache
from hourglass_sep.data.clips import Clip
from hourglass_sep.data.passes import Job, complete
from hourglass_sep.data.store import CachedStore, MemoryStore, open_store
from hourglass_sep.support.errors import DataError, Interrupted, SettingError
from tests.helpers.stems import noise, write_clip

SOURCES = ["vocals", "drums"]
FORK = multiprocessing.get_context("fork")


def songs(root: Path, count: int = 3, n_samples: int = 9000) -> list[Clip]:
    return [
        write_clip(root, f"song {k}", {name: noise(1, n_samples, seed=10 * k + i) for i, name in enumerate(SOURCES)})
        for k in range(count)
    ]


def opened(clips: list[Clip], folder: Path, **settings: Any) -> CachedStore:
    return open_store(clips, SOURCES, 8000, 1, folder, **settings)


def states(folder: Path) -> dict[str, tuple[int, int]]:
    found = {path: path.stat() for path in (folder / "8000hz_1ch").iterdir()}
    return {path.name.split("-")[0]: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


def test_a_store_in_memory_gives_parts_of_waveforms() -> None:
    mono, stereo = noise(3, 500), noise(3, 2, 700)
    store = MemoryStore([mono])
    assert (len(store), store.n_samples(0), store.has(0, 2)) == (1, 500, True)
    assert torch.equal(store.read(0, 1, 20, 50), mono[1:2, 20:50])
    assert torch.equal(MemoryStore([stereo]).read(0, 2, 1, 700), stereo[2, :, 1:])
    with pytest.raises(SettingError, match="shape"):
        MemoryStore([mono, stereo])


def test_clips_and_sources_keep_the_order_asked_for(tmp_path: Path) -> None:
    clips = songs(tmp_path / "set")
    store = open_store(clips[::-1], SOURCES[::-1], 8000, 1, tmp_path / "cache")
    assert torch.equal(store.read(0, 0, 0, 9000), noise(1, 9000, seed=21))
    inodes = states(tmp_path / "cache")
    again = opened(clips, tmp_path / "cache")
    assert torch.equal(again.read(2, 1, 0, 9000), noise(1, 9000, seed=21))
    assert states(tmp_path / "cache") == inodes
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 3


def test_an_unknown_source_is_not_there_and_a_silent_one_is_zero(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "set", "silent", {"vocals": torch.zeros(0, 0), "drums": noise(1, 9000)})
    unknown = write_clip(tmp_path / "set", "unknown", {"drums": noise(1, 9000)})
    store = opened([silent, unknown], tmp_path / "cache")
    assert [[store.has(clip, source) for source in (0, 1)] for clip in (0, 1)] == [[True, True], [False, True]]
    assert torch.equal(store.read(0, 0, 100, 9000), torch.zeros(1, 8900))


def test_a_clip_without_any_of_the_sources_is_named(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "set", "song", {"flute": noise(1, 9000)})
    with pytest.raises(DataError, match="song has none of the sources vocals, drums: it has flute"):
        opened([clip], tmp_path / "cache")


def test_a_pickled_store_reads(tmp_path: Path) -> None:
    store = opened(songs(tmp_path / "set"), tmp_path / "cache")
    again = pickle.loads(pickle.dumps(store))
    assert (len(again), again.n_samples(1)) == (3, 9000)
    assert torch.equal(again.read(1, 1, 5, 900), store.read(1, 1, 5, 900))


def test_a_cache_that_is_there_is_opened_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = songs(tmp_path / "set")
    opened(clips, tmp_path / "cache")
    monkeypatch.setattr(audio, "open_audio", None)
    assert len(opened(clips, tmp_path / "cache")) == 3


def test_other_settings_make_other_files_and_keep_the_first(tmp_path: Path) -> None:
    clips = songs(tmp_path / "set")
    opened(clips, tmp_path / "cache")
    before = states(tmp_path / "cache")
    open_store(clips, SOURCES, 4000, 1, tmp_path / "cache")
    open_store(clips, SOURCES[:1], 8000, 1, tmp_path / "cache")
    after = [path.stat().st_ino for path in (tmp_path / "cache").rglob("*.safetensors")]
    assert len(after) == 9
    assert {inode for inode, _ in before.values()} <= set(after)


def test_only_tracks_whose_files_changed_are_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = songs(tmp_path / "set")
    opened(clips, tmp_path / "cache")
    before = states(tmp_path / "cache")
    assert capsys.readouterr().err == ""
    write_clip(tmp_path / "set", "song 1", {"vocals": noise(1, 9000, seed=99)})
    store = opened(clips, tmp_path / "cache")
    after = states(tmp_path / "cache")
    assert {name for name in before if before[name] != after[name]} == {"song_1"}
    assert torch.equal(store.read(1, 0, 0, 9000), noise(1, 9000, seed=99))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("1 of 3 cached tracks")
    assert "song 1" in line


def test_after_an_error_nothing_is_half_written_and_the_next_call_goes_on(tmp_path: Path) -> None:
    clips = songs(tmp_path / "set")
    write_clip(tmp_path / "set", "song 1", {"drums": torch.full((1, 9000), torch.nan)}, subtype="FLOAT")
    with pytest.raises(DataError, match=r"^song 1: .*drums.wav holds NaN"):
        opened(clips, tmp_path / "cache", workers=1)
    before = states(tmp_path / "cache")
    assert "song_1" not in before
    assert not list((tmp_path / "cache").rglob("*.part"))
    songs(tmp_path / "set")
    os.utime(tmp_path / "set" / "song 0" / "vocals.wav", ns=(0, 0))
    assert len(opened(clips[1:], tmp_path / "cache")) == 2
    assert states(tmp_path / "cache")["song_0"] == before["song_0"]


def test_a_track_whose_files_do_not_end_together_is_refused_with_both_lengths(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "set", "song", {"vocals": noise(1, 9000), "drums": noise(1, 12_000)})
    with pytest.raises(DataError, match=r"song: .*12000 samples.*9000"):
        opened([clip], tmp_path / "cache")
    clip = write_clip(tmp_path / "set", "song", {"vocals": noise(1, 9000), "drums": noise(1, 10_000)})
    assert opened([clip], tmp_path / "cache").n_samples(0) == 9000


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    clips = songs(tmp_path / "set")
    (tmp_path / "set" / "song 2" / "drums.wav").unlink()
    with pytest.raises(DataError, match=r"song 2: .*drums.wav cannot be read"):
        opened(clips, tmp_path / "cache")


def test_a_killed_process_leaves_what_it_had_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = songs(tmp_path / "set")
    save = cache.Recorder.save

    def hang(recorder: cache.Recorder, path: Path, stamp: dict[str, Any]) -> None:
        save(recorder, path, stamp)
        if "song_1" in path.name:
            (tmp_path / "hangs").touch()
            time.sleep(60)

    with monkeypatch.context() as patched:
        patched.setattr(cache.Recorder, "save", hang)
        process = FORK.Process(target=opened, args=(clips, tmp_path / "cache"), kwargs={"workers": 1})
        process.start()
        while not (tmp_path / "hangs").exists() and process.is_alive():
            time.sleep(0.01)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    before = states(tmp_path / "cache")["song_0"]
    store = opened(clips, tmp_path / "cache")
    assert states(tmp_path / "cache")["song_0"] == before
    assert torch.equal(store.read(1, 0, 0, 9000), noise(1, 9000, seed=10))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".part", ".lock")]


def test_processes_share_the_work_of_one_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = songs(tmp_path / "set", count=8)
    save = cache.Recorder.save

    def noted(recorder: cache.Recorder, path: Path, stamp: dict[str, Any]) -> None:
        time.sleep(0.05)
        with (tmp_path / "made").open("a") as file:
            file.write(f"{path.name.split('-')[0]} {os.getpid()}\n")
        save(recorder, path, stamp)

    monkeypatch.setattr(cache.Recorder, "save", noted)
    processes = [FORK.Process(target=opened, args=(clips, tmp_path / "cache")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    made = [line.split() for line in (tmp_path / "made").read_text().splitlines()]
    assert sorted(name for name, _ in made) == [f"song_{k}" for k in range(8)]
    assert len({process for _, process in made}) > 1
    store = opened(clips, tmp_path / "cache")
    assert all(torch.equal(store.read(k, 0, 0, 9000), noise(1, 9000, seed=10 * k)) for k in range(8))


def test_ctrl_c_is_one_line(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="run the same command again"):
        complete([Job("song", tmp_path / "a.lock", lambda: False, interrupt)], "caching")
