"""Training, evaluation and separation of any sources, from folders of stems and by networks of other packages."""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hourglass_sep import audio
from hourglass_sep.inference.separator import Separator
from hourglass_sep.support.errors import CheckpointError, DataError, SettingError
from hourglass_sep.training import evaluation_run
from hourglass_sep.training import run as training
from tests.helpers.runs import TINY, composed
from tests.helpers.stems import noise, write_clip

FOUR = ("vocals", "drums", "bass", "other")
RUN = (*TINY, "data=stems", "data.batch_size=2", "logger=csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``train``, ``valid`` and ``test`` of tracks with four stems, of several rates, one of them mono."""
    for number, (part, artist, channels, rate) in enumerate(
        [("train", "A", 2, 16000), ("train", "B", 1, 22050), ("valid", "C", 2, 16000), ("test", "D", 2, 11025)]
    ):
        stems = {name: noise(channels, 2 * rate, seed=10 * number + s, peak=0.2) for s, name in enumerate(FOUR)}
        mixture = torch.stack([*stems.values()]).sum(0)
        write_clip(tmp_path / "songs" / part, f"{artist} - Song", stems, rate, mixture)
    return tmp_path / "songs"


def train(root: Path, run_dir: Path, *options: str) -> dict[str, float]:
    cache = f"paths.cache_dir='{run_dir.parent / 'cache'}'"
    return training.run(composed("train", *RUN, f"data.root={root}", cache, *options, run_dir=run_dir))


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(Separator.from_checkpoint(path).network.state_dict())


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), ("bass", "drums", "other", "vocals")),
        (("sources=[vocals,drums,bass,other]", "audio.channels=2", "augment=remix", "effect=[pan]"), FOUR),
        (("sources=[vocals,'accompaniment=drums+bass+other']",), ("vocals", "accompaniment")),
    ],
)
def test_a_folder_of_stems_trains_validates_and_separates_in_the_order_of_its_sources(
    options: tuple[str, ...], names: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    metrics = train(folder, tmp_path / "run", *options, "data.licence=CC0", "test=true")
    assert {f"val/gnsdr_{name}" for name in names} <= metrics.keys()
    assert {f"test/gnsdr_{name}" for name in names} <= metrics.keys()
    separator = Separator.from_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert separator.sources == names
    assert separator.facts == {"trained_on": "StemFolders, 2 clips", "data_licence": "CC0"}
    song = 0.1 * torch.randn(2, 20000)
    stems = separator.separate(song, 16000)
    assert tuple(stems) == names
    torch.testing.assert_close(sum(stems.values()), song, atol=1e-5, rtol=0)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert {row["group"] for row in scores["rows"]} == {"D"}
    assert {row["source"] for row in scores["rows"]} == set(names)


def tones_and_clicks(seed: int) -> dict[str, torch.Tensor]:
    """Three seconds at 8 kHz (1, N): a chord, clicks, and faint noise, which a small network can tell apart."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(24000) / 8000
    chord = sum(torch.sin(2 * torch.pi * (300 + 1500 * torch.rand(1, generator=generator)) * time) for _ in range(4))
    clicks = torch.zeros(24000)
    clicks[torch.randint(24000, (30,), generator=generator)] = 0.7
    return {
        "vocals": 0.05 * torch.as_tensor(chord)[None],
        "drums": clicks[None],
        "bass": 0.003 * torch.randn(1, 24000, generator=generator),
    }


def test_the_masks_of_a_trained_network_belong_to_the_named_sources(tmp_path: Path) -> None:
    """In an order that is neither the files' nor the alphabet's."""
    for number, artist in enumerate("ABC"):
        write_clip(tmp_path / "songs", f"{artist} - Song", tones_and_clicks(number), 8000)
    options: tuple[str, ...] = (
        "sources=[drums,vocals,bass]",
        "data.validation=[C]",
        "data.test=0",
        "optimizer.lr=0.01",
    )
    options += ("trainer.max_steps=60", "data.steps_per_epoch=60", "model.stacks=1", "data.mixture=sum")
    train(tmp_path / "songs", tmp_path / "run", *options)
    separator = Separator.from_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    song = tones_and_clicks(7)
    stems = separator.separate(torch.stack([*song.values()]).sum(0), 8000)
    for name in ("vocals", "drums"):
        likeness = {other: float(torch.cosine_similarity(stems[name], song[other])) for other in song}
        assert max(likeness, key=lambda other: likeness[other]) == name
        assert likeness[name] > 0.8


def test_evaluation_scores_the_sources_of_the_weights_on_any_data_set(folder: Path, tmp_path: Path) -> None:
    train(folder, tmp_path / "run", "sources=[vocals,'rest=drums+bass+other']")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    shared: tuple[str, ...] = (
        f"ckpt_path='{path}'",
        "data=stems",
        f"data.root={folder}",
        f"paths.cache_dir='{tmp_path / 'cache'}'",
    )
    shared += (f"paths.unfinished_dir='{tmp_path / 'unfinished'}'",)
    with pytest.raises(SettingError, match="rest"):
        evaluation_run.run(composed("evaluate", *shared, run_dir=tmp_path / "a"))
    with pytest.raises(SettingError, match=r"sources=\[drums,bass\] is not allowed, .* separates \[vocals,rest\]"):
        evaluation_run.run(composed("evaluate", *shared, "sources=[drums,bass]", run_dir=tmp_path / "a"))
    options = (*shared, "sources=[vocals,'rest=drums+bass+other']", "part=validation")
    rows = evaluation_run.run(composed("evaluate", *options, run_dir=tmp_path / "a"))
    assert {(row["clip"], row["source"]) for row in rows} == {("C - Song", "vocals"), ("C - Song", "rest")}
    assert {"model", "ideal ratio mask", "mixture", "repet sim"} < {row["system"] for row in rows}
    assert (tmp_path / "a" / "worst.npz").exists()


def test_a_new_training_starts_from_weights_of_other_sources_and_channels(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(folder, tmp_path / "first", "sources=[vocals,'rest=drums+bass+other']")
    path = tmp_path / "first" / "checkpoints" / "last.ckpt"
    capsys.readouterr()
    frozen: tuple[str, ...] = (
        "optimizer.lr=0.0",
        "optimizer.weight_decay=0.0",
        "trainer.max_steps=1",
        f"init_from='{path}'",
    )
    train(folder, tmp_path / "second", *frozen, "audio.channels=2")
    line = next(line for line in capsys.readouterr().err.splitlines() if "init_from" in line)
    before, after = weights_of(path), weights_of(tmp_path / "second" / "checkpoints" / "last.ckpt")
    other = [name for name in after if after[name].shape != before[name].shape]
    assert "stem.0.0.weight" in other
    assert "heads.0.weight" in other
    assert all(torch.equal(before[name], after[name]) for name in after if name not in other)
    assert all(name in line for name in other[:4])
    assert f"{len(after) - len(other)} of {len(after)} tensors" in line
    assert "audio.channels=1" in line


def test_training_starts_from_shipped_weights_by_name(tiny_mir1k: Path, tmp_path: Path) -> None:
    options: tuple[str, ...] = (
        "model=compact",
        "model.channels=64",
        "trainer=cpu",
        "trainer.max_steps=1",
        "data.steps_per_epoch=1",
    )
    options += ("optimizer.lr=0.0", "logger=csv", f"data.root={tiny_mir1k}", "data.split=all", "init_from=default")
    training.run(composed("train", *options, run_dir=tmp_path))
    shipped = Separator.from_pretrained().network.state_dict()
    trained = weights_of(tmp_path / "checkpoints" / "last.ckpt")
    assert all(torch.equal(trained[name], value) for name, value in shipped.items())
    facts = Separator.from_checkpoint(tmp_path / "checkpoints" / "last.ckpt").facts
    assert facts["data_licence"].endswith("started from default: MIR-1K: free for research (Hsu and Jang 2010)")


def test_masks_of_the_starting_weights_go_to_the_sources_of_their_names(folder: Path, tmp_path: Path) -> None:
    train(folder, tmp_path / "first", "sources=[vocals,drums,bass,other]", "model.fold=2", "audio.channels=2")
    path = tmp_path / "first" / "checkpoints" / "last.ckpt"
    frozen = ["optimizer.lr=0.0", "optimizer.weight_decay=0.0", "trainer.max_steps=1", f"init_from='{path}'"]
    magnitude = torch.rand(1, 2, 512, 64, generator=torch.Generator().manual_seed(0))
    first = Separator.from_checkpoint(path)
    for number, names in enumerate((["other", "vocals", "bass", "drums"], ["drums", "rest=vocals+bass+other"])):
        sources = ",".join(f"'{name}'" for name in names)
        own = ["model.fold=2", "audio.channels=2", "model.stacks=1"][: 3 if number else 2]
        train(folder, tmp_path / str(number), *frozen, *own, f"sources=[{sources}]")
        second = Separator.from_checkpoint(tmp_path / str(number) / "checkpoints" / "last.ckpt")
        for name in set(first.sources) & set(second.sources):
            stack = 0  # later ones depend on the masks of all sources
            masks = [each.stack_masks(magnitude)[stack, :, each.sources.index(name)] for each in (first, second)]
            torch.testing.assert_close(*masks)


def test_a_resumed_run_keeps_what_its_weights_were_started_from(tiny_mir1k: Path, tmp_path: Path) -> None:
    options = ["model=compact", "model.channels=64", "trainer=cpu", "data.steps_per_epoch=1", "logger=csv"]
    options += [f"data.root={tiny_mir1k}", "data.split=all", "optimizer=adamw"]
    first = ["init_from=default", "trainer.max_steps=1"]
    training.run(composed("train", *options, *first, run_dir=tmp_path / "first"))
    second = [f"ckpt_path='{tmp_path / 'first' / 'checkpoints' / 'last.ckpt'}'", "trainer.max_steps=2"]
    training.run(composed("train", *options, *second, run_dir=tmp_path / "second"))
    facts = [Separator.from_checkpoint(tmp_path / n / "checkpoints" / "last.ckpt").facts for n in ("first", "second")]
    assert "started from default" in facts[1]["data_licence"]
    assert facts[0] == facts[1]


def test_a_silent_stem_hides_no_other_score_from_the_choice_of_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    audio.write(folder / "valid" / "C - Song" / "bass.wav", torch.zeros(2, 32000), 16000)
    metrics = train(folder, tmp_path / "run", "data.mixture=sum")
    scores = [metrics[f"val/gnsdr_{name}"] for name in ("drums", "other", "vocals")]
    assert metrics["val/gnsdr"] == pytest.approx(sum(scores) / 3)


def test_weights_of_which_nothing_fits_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"init_from=default: no layer has the size.* model.channels=64"):
        train(folder, tmp_path / "run", "init_from=default")
    with pytest.raises(SettingError, match="ckpt_path and init_from do not go together"):
        train(folder, tmp_path / "run", "init_from=default", "ckpt_path=x.ckpt")


def test_a_run_of_other_sources_is_not_resumed(folder: Path, tmp_path: Path) -> None:
    train(folder, tmp_path / "first")
    path = tmp_path / "first" / "checkpoints" / "last.ckpt"
    with pytest.raises(CheckpointError, match=r"of other sources.*\[bass,drums,other,vocals\]"):
        train(folder, tmp_path / "second", f"ckpt_path='{path}'", "sources=[vocals,drums,bass,other]")


NETWORK = """
    import torch
    from torch import nn

    class UNet(nn.Module):
        def __init__(self, sources: int, width: int = 3) -> None:
            super().__init__()
            self.shape = sources
            self.layers = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
                                        nn.Conv2d(width, sources, 1))

        def forward(self, magnitude):
            return self.layers(magnitude)[None]

    class Stereo(nn.Module):
        def __init__(self, sources: int) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, sources, 1)

        def forward(self, magnitude):
            return self.layer(magnitude)[None]

    class Narrow(UNet):
        def forward(self, magnitude):
            return super().forward(magnitude)[:, :, :1]
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of another name, with a network in ``nets``."""
    name = "otherspackage"
    (tmp_path / "path" / name).mkdir(parents=True)
    (tmp_path / "path" / name / "__init__.py").touch()
    (tmp_path / "path" / name / "nets.py").write_text(textwrap.dedent(NETWORK))
    monkeypatch.syspath_prepend(tmp_path / "path")
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def test_a_network_of_another_package_is_trained_resumed_evaluated_and_separated_with(
    package: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = (f"model._target_={package}.nets.UNet", "+model.width=5")
    train(folder, tmp_path / "run", *own)
    assert f"{package}.nets.UNet takes no " in capsys.readouterr().err
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with pytest.raises(CheckpointError, match=rf"{package}.nets.UNet of another package.*trust=\[{package}\]"):
        Separator.from_checkpoint(path)
    separator = Separator.from_checkpoint(path, trust=[package])
    assert separator.description["network"] == {
        "_target_": f"{package}.nets.UNet",
        "arguments": {"sources": 4, "width": 5},
    }
    song = 0.1 * torch.randn(2, 20000)
    torch.testing.assert_close(sum(separator.separate(song, 16000).values()), song, atol=1e-5, rtol=0)
    train(folder, tmp_path / "more", *own, f"ckpt_path='{path}'", "trainer.max_steps=4")
    options: tuple[str, ...] = (
        f"ckpt_path='{path}'",
        f"trust=[{package}]",
        "data=stems",
        f"data.root={folder}",
        "baselines=none",
    )
    options += (f"paths.cache_dir='{tmp_path / 'cache'}'", f"paths.unfinished_dir='{tmp_path / 'unfinished'}'")
    assert len(evaluation_run.run(composed("evaluate", *options, run_dir=tmp_path / "scores"))) == 8


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("{}.nets.Stereo", r"the network Stereo fails on a magnitude \(2, 1, 512, 64\) .*audio.channels=1 channels"),
        ("{}.nets.Narrow", r"the network Narrow returned shape .*: return masks \(K, 2, 4, 1, 512, 64\)"),
        ("{}.nets.Missing", r"model._target_={}.nets.Missing cannot be imported"),
        (
            "missingpackage.Net",
            "model._target_=missingpackage.Net cannot be imported .*: correct the name, or install its package",
        ),
        ("torch.optim.Adam", "model._target_=.*Adam.* is not allowed: give a class that is a torch.nn.Module"),
    ],
)
def test_what_is_no_network_is_named(target: str, words: str, package: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=words.format(package)):
        train(folder, tmp_path / "run", f"model._target_={target.format(package)}")


def test_one_source_alone_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"sources=\[vocals\] is one source, which would be its own mixture"):
        train(folder, tmp_path / "run", "sources=[vocals]")


def test_the_number_of_sources_is_not_set_twice(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"model.sources is not allowed: it follows from sources"):
        train(folder, tmp_path / "run", "+model.sources=3")


def test_voices_of_one_set_are_trained_over_accompaniments_of_another(folder: Path, tmp_path: Path) -> None:
    for number in range(2):
        audio.write(tmp_path / "solo" / f"{number}.wav", noise(1, 16000, seed=number), 8000)
    options = [*TINY, "data=mix", "logger=csv", "+data@data.sets.songs=stems", f"data.sets.songs.root={folder}"]
    options += ["data.sets.songs.sources=[vocals,'rest=drums+bass+other']", "data.sets.songs.licence=CC0"]
    options += ["+data@data.sets.solo=stems", f"data.sets.solo.root={tmp_path / 'solo'}", "data.sets.solo.stem=vocals"]
    options += ["data.sets.solo.validation=0", "data.sets.solo.test=0", "data.sets.solo.licence=mine"]
    options += [f"paths.cache_dir='{tmp_path / 'cache'}'", "data.weights={songs: 1.0, solo: 3.0}"]
    metrics = training.run(composed("train", *options, run_dir=tmp_path / "run"))
    assert {"val/gnsdr_vocals", "val/gnsdr_rest"} <= metrics.keys()
    separator = Separator.from_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert separator.facts["data_licence"] == "songs: CC0; solo: mine"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "train" / "A - Song" / "bass.wav").unlink(), "bass.*A - Song|A - Song.*bass"),
        (lambda root: audio.write(root / "train" / "A - Song" / "bass.wav", noise(2, 48000), 16000), "48000 samples"),
        (lambda root: audio.write(root / "valid" / "C - Song" / "mixture.wav", noise(2, 32000, seed=9), 16000),
         "C - Song add up to .* dB only.*data.mixture=sum"),
    ],
)  # fmt: skip
def test_invalid_tracks_are_named_before_training(damage, words: str, folder: Path, tmp_path: Path) -> None:
    damage(folder)
    with pytest.raises(DataError, match=words):
        train(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()
