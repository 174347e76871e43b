import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hourglass_sep.inference.separator import Separator
from hourglass_sep.scoring import evaluation
from hourglass_sep.scoring.evaluation import evaluate_all
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.scoring.rows import Row
from hourglass_sep.scoring.worst import WorstClips, beginning, levels_db
from hourglass_sep.support.errors import UserError
from tests.helpers.clips import mir1k_clips
from tests.helpers.sounds import noise

SOURCES = ("drums", "vocals")


def rows_of(clip: str, drums: float | None, vocals: float | None) -> list[Row]:
    return [
        {"clip": clip, "system": system, "source": source, "sdr": value if system == "model" else -99.0}
        for system in ("mixture", "model")
        for source, value in (("drums", drums), ("vocals", vocals))
    ]


def sounds(level: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return noise(8000), noise(2, 8000, seed=1), level * noise(2, 8000, seed=2)


def pictures(content: bytes) -> dict[tuple[str, str], np.ndarray]:
    """The estimates' levels by clip and source."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        index = json.loads(file["index"].tobytes())
        return {(clip, source): file[f"{n}/estimate"] for n, (clip, source) in enumerate(index)}


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_lowest_scores_of_each_source_are_kept_whatever_the_order(on_disk: bool, tmp_path: Path) -> None:
    scores = {f"song/{n}": (float((7 * n) % 23), float((5 * n) % 19)) for n in range(23)}
    expected = set()
    for s, source in enumerate(SOURCES):
        ranking = sorted((values[s], clip) for clip, values in scores.items())
        expected |= {(clip, source) for _, clip in ranking[:10]}
    found = []
    for order in (list(scores), list(reversed(scores))):
        folder = tmp_path / order[0].replace("/", "") if on_disk else None
        worst = WorstClips("sdr", SOURCES, folder)
        for clip in order:
            worst.offer(rows_of(clip, *scores[clip]), *sounds(1.0))
        worst.offer(rows_of("silent", None, None), *sounds(1.0))
        found.append(pictures(worst.content()))
        assert set(found[-1]) == expected
        if folder is not None:
            assert len(list(folder.iterdir())) == len({clip for clip, _ in expected})
            worst.close()
            assert not folder.exists()
    assert all((found[0][key] == found[1][key]).all() for key in expected)


def test_many_sources_have_fewer_clips_each() -> None:
    names = [f"s{n}" for n in range(20)]
    worst = WorstClips("sdr", names)
    for clip in range(5):
        rows = [{"clip": str(clip), "system": "model", "source": name, "sdr": float(clip)} for name in names]
        worst.offer(rows, noise(2000), noise(20, 2000), noise(20, 2000))
    assert set(pictures(worst.content())) == {(str(clip), name) for clip in (0, 1) for name in names}


def test_what_an_interrupted_run_has_kept_is_taken_over(tmp_path: Path) -> None:
    done = {f"song {n}": rows_of(f"song {n}", float(n), float(-n)) for n in range(15)}
    first = WorstClips("sdr", SOURCES, tmp_path / "kept")
    for rows in done.values():
        first.offer(rows, *sounds(1.0))
    again = WorstClips("sdr", SOURCES, tmp_path / "kept", done)
    again.offer(rows_of("last", 0.5, 0.5), *sounds(2.0))
    found = pictures(again.content())
    assert {clip for clip, source in found if source == "drums"} == {"last", *(f"song {n}" for n in range(9))}
    assert {clip for clip, source in found if source == "vocals"} == {f"song {n}" for n in range(5, 15)}


def test_a_run_that_goes_on_keeps_the_same_clips_as_one_that_was_not_interrupted(
    tiny_mir1k: Path, tiny_separator: Separator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, protocol = mir1k_clips(tiny_mir1k)[:4], load_protocol("si_sdr")
    kept: list[bytes] = []

    def keep(rows: list[Row], worst: bytes) -> None:
        kept.append(worst)

    evaluate_all(tiny_separator, clips, protocol, {}, keep=keep)
    evaluate = evaluation.evaluate

    def interrupted(separator, clip, *rest):
        if clip in clips[2:]:
            raise KeyboardInterrupt
        return evaluate(separator, clip, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("hourglass_sep.scoring.evaluation.evaluate", interrupted)
        with pytest.raises(UserError, match="2 of 4"):
            evaluate_all(tiny_separator, clips, protocol, {}, tmp_path, 1, keep=keep)
    assert len(list(tmp_path.glob("*.worst/*.npz"))) == 2
    evaluate_all(tiny_separator, clips, protocol, {}, tmp_path, 1, keep=keep)
    assert list(tmp_path.iterdir()) == []
    whole, resumed = (pictures(content) for content in kept)
    assert whole.keys() == resumed.keys()
    assert len(whole) == 8
    assert all((whole[key] == resumed[key]).all() for key in whole)


def test_the_beginning_is_twelve_seconds_of_the_channels_mean_and_levels_are_relative_to_the_mixture() -> None:
    stereo = noise(3, 2, 14 * 8000)
    shown = beginning(stereo, 8000)
    assert shown.shape == (3, 12 * 16000)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    levels = levels_db({"mixture": tone, "half": tone / 2, "silence": 0 * tone})
    assert levels["mixture"].max() == pytest.approx(0.0)
    assert levels["half"].max() == pytest.approx(-6.02, abs=0.01)
    assert levels["silence"].max() == -160
    assert levels["mixture"].argmax(0)[10] == 64  # 1000 Hz in bins of 15.625 Hz
