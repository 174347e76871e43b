import hashlib
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from hourglass_sep import audio
from hourglass_sep.data.clips import Catalogue, loaded
from hourglass_sep.data.synthetic import synthetic4
from hourglass_sep.data.synthetic.sets import release
from hourglass_sep.data.synthetic.synthesis import write_synthetic_mir1k
from hourglass_sep.data.synthetic.synthetic4 import Synthetic4, write_synthetic4
from hourglass_sep.dsp.stems import Stems
from hourglass_sep.support.errors import DataError, SettingError

TRAIN, TEST = {"Ant": 2, "Bee": 1}, {"Cow": 1}
NAMES = ("mixture", "drums", "bass", "other", "vocals")


def write(root: Path, seed: int = 0, train: dict[str, int] = TRAIN, test: dict[str, int] = TEST) -> list[Path]:
    return write_synthetic4(root, train, test, (1.0, 1.2), seed)


def contents(root: Path) -> dict[str, str]:
    """Hash of each sound file by its path relative to ``root``."""
    paths = sorted(root.rglob("*.wav"))
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Synthetic4:
    """A catalogue whose set is written; tests must not change it."""
    catalogue = Synthetic4(tmp_path_factory.mktemp("four"), TRAIN, TEST, ["Bee"], (1.0, 1.2))
    catalogue.prepare()
    return catalogue


def test_a_set_is_laid_out_as_musdb18_hq(small: Synthetic4) -> None:
    tracks = ["test/Cow - Song 01", "train/Ant - Song 01", "train/Ant - Song 02", "train/Bee - Song 01"]
    assert sorted(contents(small.root)) == [f"{track}/{name}.wav" for track in tracks for name in sorted(NAMES)]
    info = audio.info(small.root / "train/Bee - Song 01/vocals.wav")
    assert (info.sample_rate_hz, info.channels) == (44100, 2)
    assert soundfile.info(small.root / "train/Bee - Song 01/mixture.wav").subtype == "PCM_16"


def test_musdbs_own_parser_reads_a_set(small: Synthetic4) -> None:
    musdb = pytest.importorskip("musdb")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for subset, names in (
            ("train", ["Ant - Song 01", "Ant - Song 02", "Bee - Song 01"]),
            ("test", ["Cow - Song 01"]),
        ):
            tracks = musdb.DB(root=str(small.root), is_wav=True, subsets=subset).tracks
            assert [track.name for track in tracks] == names
        assert (track := tracks[0]).artist == "Cow"
        ours = small.split().test[0].load()
        assert torch.equal(torch.from_numpy(track.targets["drums"].audio.T).float(), ours["drums"])


def test_each_mixture_is_exactly_the_sum_of_its_stems(small: Synthetic4) -> None:
    for folder in {path.parent for path in small.root.rglob("*.wav")}:
        mixture, *stems = (soundfile.read(folder / f"{name}.wav", dtype="int16")[0].astype(int) for name in NAMES)
        assert (mixture == sum(stems)).all()
        assert abs(mixture).max() < 0.91 * 2**15


def test_each_file_holds_the_stem_that_it_is_named_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"bass": 1, "drums": 10, "other": 100, "vocals": 1000}
    stems = Stems({name: torch.full((2, 50), value / 2**15) for name, value in steps.items()}, 44100)
    monkeypatch.setattr(synthetic4, "synthesize_stems", lambda *_: stems)
    (folder, _) = write(tmp_path, train={"Bee": 1}, test={"Cow": 1})
    found = {name: soundfile.read(folder / f"{name}.wav", dtype="int16")[0] for name in NAMES}
    assert {name: set(samples.flat) for name, samples in found.items()} == {
        name: {value} for name, value in (steps | {"mixture": 1111}).items()
    }


def test_the_tracks_of_an_artist_differ_and_depend_on_no_other_artist(small: Synthetic4, tmp_path: Path) -> None:
    assert len(set(contents(small.root).values())) == 4 * len(NAMES)
    write(tmp_path, train={"Bee": 1, "Elk": 1}, test={"Cow": 1})
    assert len(contents(tmp_path).items() & contents(small.root).items()) == 2 * len(NAMES)


def test_the_catalogue_divides_by_artist(small: Synthetic4) -> None:
    catalogue: Catalogue = small  # it satisfies the protocol
    split = catalogue.split()
    assert [clip.name for clip in split.train] == ["Ant - Song 01", "Ant - Song 02"]
    assert [clip.name for clip in split.validation] == ["Bee - Song 01"]
    assert [clip.name for clip in split.test] == ["Cow - Song 01"]
    groups = [{clip.group for clip in part} for part in (split.train, split.validation, split.test)]
    assert groups == [{"Ant"}, {"Bee"}, {"Cow"}]


def test_the_default_sets_parts_share_no_artist_and_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: True)
    split = Synthetic4(tmp_path).split()
    parts = [split.train, split.validation, split.test]
    assert [len(part) for part in parts] == [12, 2, 2]
    groups = [{clip.group for clip in part} for part in parts]
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_clips_give_the_sources_in_the_order_asked_for(small: Synthetic4) -> None:
    def batch(*sources: str) -> torch.Tensor:
        catalogue = Synthetic4(small.root, TRAIN, TEST, ["Bee"], (1.0, 1.2), sources=sources)
        assert catalogue.sources == tuple(source.partition("=")[0] for source in sources)
        found = loaded(catalogue.split().test[0], catalogue.sources)
        assert found.sample_rate_hz == 44100
        mixtures.append(found.mixture)
        return found.sources

    mixtures: list[torch.Tensor] = []
    drums, bass, other, vocals = batch("drums", "bass", "other", "vocals")
    assert torch.equal(batch("vocals", "bass"), torch.stack([vocals, bass]))
    band = torch.stack([drums, bass, other]).sum(0)
    assert torch.equal(batch("accompaniment", "vocals"), torch.stack([band, vocals]))
    assert torch.equal(batch("rhythm=drums+bass", "other"), torch.stack([drums + bass, other]))
    assert all(torch.equal(mixture, band + vocals) for mixture in mixtures)


def test_a_set_is_completed_kept_and_replaced(tmp_path: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}

    folders = write(tmp_path)
    whole = contents(tmp_path)
    (folders[1] / "drums.wav").unlink()
    before = times()
    write(tmp_path)
    assert contents(tmp_path) == whole
    after = times()
    assert {path.parent for path in after if after[path] != before.get(path)} == {folders[1]}
    write(tmp_path, train=dict(reversed(TRAIN.items())))
    assert times() == after
    (folders[0] / "bass.wav.part").write_bytes(b"of a killed process")
    write(tmp_path, seed=1, train={"Bee": 1})
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["Bee - Song 01", "Cow - Song 01"]
    assert not set(contents(tmp_path).values()) & set(whole.values())
    assert json.loads((tmp_path / "synthetic4.json").read_text())["seed"] == 1


def test_other_peoples_tracks_are_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "train" / "A Band - A Song" / "mixture.wav"
    audio.write(path, torch.zeros(2, 100), 44100)
    with pytest.raises(DataError, match=r"holds other clips: give data=synthetic4 .*data\.root"):
        write(tmp_path)
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


def test_both_kinds_of_sets_can_share_a_folder(tmp_path: Path) -> None:
    write(tmp_path, train={"Bee": 1}, test={"Cow": 1})
    write_synthetic_mir1k(tmp_path, {"bass": 1}, 1, (1.0, 1.0), seed=0)
    before = contents(tmp_path)
    assert len(before) == 11
    write(tmp_path, train={"Bee": 1}, test={"Cow": 1})
    assert contents(tmp_path) == before


def test_a_missing_track_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Ant - Song 01 has no mixture\.wav: call prepare\(\)"):
        Synthetic4(tmp_path, TRAIN, TEST, ["Bee"]).split()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"train": {"Ant": 0}}, r"data\.train\.Ant=0"),
        ({"train": {"a/b": 1}}, r"data\.train has the artist 'a/b'"),
        ({"train": {"A - B": 1}}, r"data\.train has the artist 'A - B'"),
        ({"train": {"..": 1}}, r"data\.train has the artist '\.\.'"),
        ({"test": 3}, r"data\.test=3"),
        ({"test": {"Ant": 1}}, r"Ant is in data\.train and in data\.test"),
        ({"validation": ["Dog"]}, r"data\.validation=\['Dog'\] .*\(Ant, Bee\)"),
        ({"validation": "Bee"}, r"data\.validation='Bee'"),
        ({"validation": None}, r"data\.validation=None"),
        ({"seconds": (0.5, 2)}, r"data\.seconds=\(0\.5, 2\)"),
        ({"seconds": (3, 2)}, r"data\.seconds=\(3, 2\)"),
        ({"seconds": (3, float("nan"))}, r"data\.seconds="),
        ({"seconds": 3}, r"data\.seconds=3"),
        ({"data_seed": -1}, r"data\.data_seed=-1"),
        ({"sources": ["vocals", "guitar"]}, r"data\.sources has guitar.* choose from vocals, drums, bass, other"),
        ({"sources": ["band=drums+piano"]}, r"data\.sources has piano in band"),
        ({"sources": ["accompaniment", "drums"]}, r"the stem drums twice"),
        ({"sources": "vocals"}, r"data\.sources='vocals'"),
        ({"sources": None}, r"data\.sources=None"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words) as caught:
        Synthetic4(tmp_path, **({"train": TRAIN, "test": TEST, "validation": ["Bee"]} | arguments))
    assert "\n" not in str(caught.value)


def test_the_rate_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="sample_rate_hz=4000"):
        write_synthetic4(tmp_path / "set", TRAIN, TEST, (1.0, 1.0), 0, 4000)
    assert not (tmp_path / "set").exists()


MAKER = """
import sys
from hourglass_sep.data.synthetic.synthetic4 import write_synthetic4
write_synthetic4(sys.argv[1], {"Ant": 2, "Bee": 1}, {"Cow": 1}, (1.0, 1.2), 0)
print("made", flush=True)
sys.stdin.read()  # uses the set until the test closes the pipe
"""


@pytest.mark.slow
def test_processes_share_a_set_and_none_replaces_what_another_uses(small: Synthetic4, tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    other = subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path)], stdin=pipe, stdout=pipe, text=True)
    write(tmp_path)
    assert other.stdout is not None
    assert other.stdout.readline() == "made\n"
    assert contents(tmp_path) == contents(small.root)
    release(tmp_path)
    with pytest.raises(DataError, match=r"in use by another process, with other settings of data=synthetic4"):
        write(tmp_path, seed=1)
    assert contents(tmp_path) == contents(small.root)
    other.communicate("")
    write(tmp_path, seed=1)
    assert not set(contents(tmp_path).values()) & set(contents(small.root).values())
