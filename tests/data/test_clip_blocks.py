from pathlib import Path

import pytest
import soundfile
import torch

from hourglass_sep import audio
from hourglass_sep.data.clips import Clip, Form, Part
from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.support.errors import DataError
from tests.helpers.stems import noise, write_clip

SOURCES = ["vocals", "drums"]
SECONDS = 12.0  # several blocks


def mixed(root: Path) -> Clip:
    """A clip of files with different rates, channels and formats, whose lengths differ a little."""
    n_samples = round(SECONDS * 16000)
    clip = write_clip(root, "song", {"vocals": noise(1, n_samples)}, 16000, noise(1, n_samples + 900, seed=1))
    soundfile.write(root / "drums.ogg", noise(2, round(SECONDS * 22050), seed=2).T.numpy(), 22050)
    return Clip("song", "", {**clip.stems, "drums": [Part(root / "drums.ogg")]}, clip.mixture)


def test_joined_blocks_are_the_files_at_the_highest_rate_cut_to_the_shortest(tmp_path: Path) -> None:
    clip = mixed(tmp_path)
    blocks = list(clip.blocks())
    assert len(blocks) > 3
    n_samples = round(SECONDS * 22050)
    for name, part in (("vocals", clip.stems["vocals"][0]), ("drums", clip.stems["drums"][0]), (MIXTURE, clip.mixture)):
        assert part is not None
        found = torch.cat([block[name] for block in blocks], -1)
        expected = audio.resample(*audio.read(part.path), 22050).expand(2, -1)
        assert torch.equal(found, expected[:, :n_samples])
    loaded = clip.load()
    assert all(torch.equal(loaded[name], torch.cat([block[name] for block in blocks], -1)) for name in loaded)


def test_blocks_are_short_however_long_the_clip(tmp_path: Path) -> None:
    assert max(block["drums"].shape[-1] for block in mixed(tmp_path).blocks()) == 1 << 16


def test_a_part_of_a_clip_is_that_part_of_all_files(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, "song", {name: noise(1, 90_000, seed=seed) for seed, name in enumerate(SOURCES)})
    found = clip.load(1.5, 2.0)
    assert all(torch.equal(found[name], clip.load()[name][:, 12000:28000]) for name in SOURCES)


def test_lengths_that_no_header_gives_are_compared_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path, "song", {"vocals": noise(1, 90_000), "drums": noise(1, 80_000)})
    monkeypatch.setattr(Clip, "check", lambda clip: Form(8000, 1, None))
    with pytest.raises(DataError, match=r"song: .*90000 samples.*80000"):
        list(clip.blocks())
