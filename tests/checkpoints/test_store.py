import json
import shutil
from pathlib import Path

import pytest
import torch

from hourglass_sep import Separator
from hourglass_sep.checkpoints.card import problem
from hourglass_sep.checkpoints.store import KEY
from hourglass_sep.data.mir1k import find_clips
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.masks import share
from hourglass_sep.dsp.stems import SOURCES
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.scoring.metrics import si_sdr
from hourglass_sep.support.errors import CheckpointError
from hourglass_sep.support.paths import WEIGHTS_DIR

REPO = Path(__file__).resolve().parents[2]


def small(**settings: object) -> Separator:
    torch.manual_seed(0)
    network = StackedHourglass(stacks=2, channels=8, depth=2, fold=2)
    return Separator(network, Spectrogram(n_fft=512, hop_length=128, n_freq=256), **settings).eval()  # type: ignore[arg-type]


def lightning_checkpoint(separator: Separator, path: Path) -> Path:
    state = {f"separator.{name}": value for name, value in separator.state_dict().items()}
    torch.save({"state_dict": state, KEY: separator.description}, path)
    return path


def test_weights_alone_rebuild_the_separator_that_was_saved(tmp_path: Path) -> None:
    separator = small(context_frames=8, fade_frames=3, scale="clip", masks="raw", high_band="zero")
    waveform = 0.1 * torch.randn(9000, generator=torch.Generator().manual_seed(0))
    expected = separator.separate(waveform, 16000)["vocals"]
    separator.save_weights(tmp_path / "mine.safetensors", {"data": "none"})
    for path, tolerance in (
        (tmp_path / "mine.safetensors", 2e-3),  # half precision
        (lightning_checkpoint(separator, tmp_path / "mine.ckpt"), 1e-6),  # another memory format
    ):
        again = Separator.from_checkpoint(path)
        facts = {"data": "none"} if path.suffix == ".safetensors" else {}
        assert again.description == separator.description | {"facts": facts}
        error = (again.separate(waveform, 16000)["vocals"] - expected).abs().max()
        assert float(error) <= tolerance * float(expected.abs().max())


def test_weights_that_were_loaded_are_saved_again_as_they_are(tmp_path: Path) -> None:
    """Loaded networks have another memory format than new ones."""
    small().save_weights(tmp_path / "first.safetensors", {})
    Separator.from_checkpoint(tmp_path / "first.safetensors").save_weights(tmp_path / "second.safetensors", {})
    assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "second.safetensors").read_bytes()
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


def test_settings_can_be_overridden_when_loading(tmp_path: Path) -> None:
    path = lightning_checkpoint(small(), tmp_path / "mine.ckpt")
    assert Separator.from_checkpoint(path, masks="raw", window_frames=None).settings["masks"] == "raw"


def test_checkpoints_of_something_else_are_named_in_one_line(tmp_path: Path) -> None:
    good = small()
    junk = {
        "missing.ckpt": "is not a file",
        "text.ckpt": "not a checkpoint",
        "other.ckpt": "something else",
        "future.ckpt": "does not describe",
        "later.ckpt": "another version",
        "diverged.ckpt": "diverged",
        "bare.safetensors": "no card",
        "damaged.safetensors": "damaged",
    }
    (tmp_path / "text.ckpt").write_text("words")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    winged = good.description["network"] | {"arguments": {"wings": 2}}
    torch.save({"state_dict": {}, KEY: good.description | {"network": winged}}, tmp_path / "future.ckpt")
    torch.save({"state_dict": {}, KEY: good.description | {"format": "hourglass_sep/99"}}, tmp_path / "later.ckpt")
    lost = {"separator.network.x": torch.tensor([1.0, torch.nan])}
    torch.save({"state_dict": lost, KEY: good.description}, tmp_path / "diverged.ckpt")
    good.save_weights(tmp_path / "good.safetensors", {})
    shutil.copy(tmp_path / "good.safetensors", tmp_path / "bare.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:99])
    shutil.copy(tmp_path / "good.json", tmp_path / "damaged.json")
    for name, words in junk.items():
        with pytest.raises(CheckpointError, match=words) as caught:
            Separator.load(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"state_dict": {}, KEY: Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(CheckpointError):
        Separator.from_checkpoint(tmp_path / "trap.ckpt")
    assert not (tmp_path / "sprung").exists()


def test_an_unknown_name_lists_those_that_ship() -> None:
    with pytest.raises(CheckpointError, match=r"'nobody'.*'default', 'large'"):
        Separator.from_pretrained("nobody")


@pytest.mark.parametrize(("name", "most_bytes"), [("default", 5_000_000), ("large", 10_000_000)])
def test_shipped_weights_are_small_and_have_a_card_that_says_where_they_come_from(name: str, most_bytes: int) -> None:
    path = WEIGHTS_DIR / f"{name}.safetensors"
    assert path.stat().st_size < most_bytes
    card = json.loads(path.with_suffix(".json").read_text())
    assert problem(card) == ""
    facts = card["facts"]
    for key in ("trained_on", "data_licence", "licence", "recipe", "steps", "not_good_at"):
        assert facts[key], key
    assert len(facts["commit"]) == 40
    assert facts["seconds_of_training"] > 60
    recorded = json.loads((REPO / "experiments" / f"{name}_weights" / "scores.json").read_text())
    for source in SOURCES:
        scores = facts["test_scores_db"][source]
        assert scores["gnsdr"] == round(recorded["summary"]["model"][source]["gnsdr"], 2)
        low, high = scores["gnsdr_95_percent_interval"]
        assert low < scores["gnsdr"] < high


def test_all_shipped_weights_together_are_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS_DIR.glob("*.safetensors")) < 16_000_000


@pytest.mark.parametrize("name", ["default", "large"])
def test_shipped_weights_separate_a_synthetic_song_better_than_chance(name: str) -> None:
    sources = synthesize_song(1, 6.0)
    stems = Separator.from_pretrained(name).separate(sources.sum(0), 16000)
    scores = si_sdr(sources, torch.stack([stems["accompaniment"], stems["vocals"]]))
    assert float(scores.min()) > 2


@pytest.mark.parametrize("name", ["default", "large"])
def test_shipped_weights_reach_the_scores_of_their_card_on_a_real_clip(name: str, mir1k_root: Path) -> None:
    sources = next(clip for clip in find_clips(mir1k_root) if clip.name == "annar_2_04").load().stacked(SOURCES)[:, 0]
    stems = Separator.from_pretrained(name).separate(sources.sum(0), 16000)
    assert float(si_sdr(sources, torch.stack(list(stems.values()))).min()) > 5


def test_masks_of_the_shipped_weights_are_not_equal_parts() -> None:
    separator = Separator.from_pretrained()
    magnitude = torch.rand(1, 1, 512, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        masks = share(separator.stack_masks(magnitude)[-1].clamp_min(0), "sum_to_one")
    assert float(masks.std()) > 0.05
