import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from hourglass_sep.data.clips import Clip, Part
from hourglass_sep.data.mir1k import SAMPLE_RATE_HZ
from hourglass_sep.data.synthetic.synthesis import synthesize_song
from hourglass_sep.dsp.masks import ideal_binary_mask, ideal_ratio_mask, phase_sensitive_mask
from hourglass_sep.dsp.stems import MIXTURE, SOURCES
from hourglass_sep.dsp.stft import Spectrogram
from hourglass_sep.inference.reconstruct import Misi
from hourglass_sep.inference.refinement.refine import NmfRefinement
from hourglass_sep.inference.separator import Separator
from hourglass_sep.networks.hourglass import StackedHourglass
from hourglass_sep.scoring.evaluation import _fingerprint, evaluate, evaluate_all
from hourglass_sep.scoring.metrics import bss_eval_sources, si_sdr
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.scoring.rows import summarise
from hourglass_sep.scoring.systems import Model, OracleMask, RepetSim, Stack, System, repeating_part
from hourglass_sep.support.errors import DataError, SettingError, UserError
from tests.helpers.clips import clip_of, mir1k_clips
from tests.helpers.runs import composed
from tests.helpers.sounds import noise

MIR1K = load_protocol("mir1k")
FOUR = ("bass", "drums", "other", "vocals")
PAIR: Any = SimpleNamespace(sources=SOURCES)  # all that a system without masks asks of a separator
EVERYTHING = instantiate(composed("evaluate").baselines)


def test_the_table_has_the_baselines_that_bound_a_model_from_both_sides() -> None:
    assert list(EVERYTHING) == ["repet_sim", "ideal_binary_mask", "ideal_ratio_mask", "phase_sensitive_mask"]
    masks = [ideal_binary_mask, ideal_ratio_mask, phase_sensitive_mask]
    assert [EVERYTHING[name].mask for name in list(EVERYTHING)[1:]] == masks
    assert not composed("evaluate", "baselines=none").baselines


@pytest.mark.parametrize(
    "system", [Model(), RepetSim(), *(OracleMask(m) for m in (ideal_binary_mask, ideal_ratio_mask))]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_system_gives_stems_that_add_up_to_the_mixture(
    system, channels: int, tiny_separator: Separator
) -> None:  # fmt: skip
    references = 0.1 * noise(2, channels, 16001)
    estimates = system(references.sum(0), references, SAMPLE_RATE_HZ, tiny_separator)
    assert estimates.shape == references.shape
    torch.testing.assert_close(estimates.sum(0), references.sum(0), atol=1e-4, rtol=0)


def test_the_last_stack_is_the_model_and_earlier_ones_are_not(tiny_separator: Separator) -> None:
    mixture = 0.1 * noise(1, 16001)
    references = torch.stack([mixture, mixture])
    stacks = len(tiny_separator.stack_masks(torch.rand(1, 1, 512, 64)))
    systems: list[System] = [Model(), *(Stack(k + 1) for k in range(stacks))]
    estimates = [system(mixture, references, SAMPLE_RATE_HZ, tiny_separator) for system in systems]
    torch.testing.assert_close(estimates[-1], estimates[0], atol=1e-5, rtol=0)
    assert not torch.allclose(estimates[1], estimates[0], atol=1e-3)
    with pytest.raises(SettingError, match=rf"has {stacks}: leave it out with ~baselines\.stack_{stacks + 1}"):
        Stack(stacks + 1)(mixture, references, SAMPLE_RATE_HZ, tiny_separator)


def test_oracles_know_their_sources_and_the_model_does_not(tiny_separator: Separator) -> None:
    references = 0.1 * noise(2, 1, 16000)
    mixture, swapped = references.sum(0), references.flip(0)
    for oracle in (OracleMask(ideal_ratio_mask), OracleMask(phase_sensitive_mask)):
        estimates = oracle(mixture, references, 8000, tiny_separator)
        assert float(si_sdr(references, estimates).min()) > float(si_sdr(swapped, estimates).max()) + 3
        torch.testing.assert_close(oracle(mixture, swapped, 8000, tiny_separator), estimates.flip(0))
    model = Model()
    assert torch.equal(model(mixture, references, 8000, tiny_separator), model(mixture, swapped, 8000, tiny_separator))


def test_repet_sim_gives_a_loop_to_the_accompaniment_and_what_is_sung_over_it_to_the_voice() -> None:
    loop = 0.1 * noise(1, 8000)
    time = torch.arange(8 * 8000) / 16000
    song = torch.cat([loop] * 8, -1)
    voice = 0.1 * torch.sin(2 * torch.pi * (300 + 150 * time) * time)[None]
    references = torch.stack([song, voice])
    assert SOURCES == ("accompaniment", "vocals")
    estimates = RepetSim(min_distance_seconds=0.4)(references.sum(0), references, 16000, PAIR)
    mixture = references.sum(0, keepdim=True).expand_as(references)
    gain = bss_eval_sources(references, estimates).sdr - bss_eval_sources(references, mixture).sdr
    assert float(gain.min()) > 6


def test_repet_sim_gives_what_no_voice_reaches_to_the_accompaniment() -> None:
    hum = torch.sin(2 * torch.pi * 50 * torch.arange(32000) / 16000 * torch.linspace(0.8, 1.2, 32000))[None]
    estimates = RepetSim()(hum, torch.stack([hum, 0 * hum]), 16000, PAIR)
    assert float(estimates[SOURCES.index("vocals")].norm() / hum.norm()) < 0.02


def test_what_repeats_is_the_median_of_similar_frames_and_never_louder_than_the_frame() -> None:
    frames = torch.tensor([[1.0, 0, 1.1, 0, 0.9, 0], [0, 1, 0, 1, 0, 1], [0, 0, 0, 0, 5, 0]])
    part = repeating_part(frames, max_similar=3, min_distance_frames=1)
    assert part.shape == frames.shape
    assert bool((part <= frames).all())
    torch.testing.assert_close(part[0, [0, 2]], torch.tensor([1.0, 1.0]))
    assert float(part[2, 4]) == 0.0  # heard once: not accompaniment


def test_evaluation_scores_mixture_model_and_baselines_of_real_clips(
    mir1k_root: Path, tiny_separator: Separator
) -> None:
    clips = mir1k_clips(mir1k_root)[5:7]
    rows = evaluate_all(tiny_separator, clips, MIR1K, EVERYTHING)
    assert rows == [row for clip in clips for row in evaluate(tiny_separator, clip, MIR1K, EVERYTHING)]
    summary = summarise(rows, MIR1K.headline, MIR1K.average)
    assert list(summary) == [MIXTURE, "model", *(name.replace("_", " ") for name in EVERYTHING)]
    for source in SOURCES:
        scores = {system: summary[system][source]["gnsdr"] or 0.0 for system in summary}
        assert scores[MIXTURE] == 0
        assert 9 < scores["ideal ratio mask"] < scores["phase sensitive mask"] < 20
        assert scores["model"] < 5  # it is not trained
        assert scores["repet sim"] < scores["ideal binary mask"]


def test_rows_of_other_settings_are_not_taken_over(
    tiny_mir1k: Path, tiny_separator: Separator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = mir1k_clips(tiny_mir1k)[:2]
    scored: list[str] = []

    def count(separator, clip, protocol, baselines, mixture, worst):
        if len(scored) == 1 and not finish:
            raise KeyboardInterrupt
        scored.append(clip.name)
        row = {"clip": clip.name, "group": "", "system": "model", "source": "vocals", "n_samples": 1, "seconds": 0.5}
        return [row | dict.fromkeys(protocol.metrics, 1.0)]

    monkeypatch.setattr("hourglass_sep.scoring.evaluation.evaluate", count)
    settings = [(MIR1K, {"repet_sim": RepetSim()}), (load_protocol("si_sdr"), {"repet_sim": RepetSim()})]
    settings += [(MIR1K, {"repet_sim": RepetSim(max_similar=7)}), (MIR1K, {})]
    finish = False
    with pytest.raises(UserError, match="1 of 2"):
        evaluate_all(tiny_separator, clips, *settings[0], tmp_path, workers=1)
    finish = True
    for other in settings[1:]:
        scored.clear()
        evaluate_all(tiny_separator, clips, *other, tmp_path, workers=1)
        assert len(scored) == 2
    network, stft = tiny_separator.network, tiny_separator.spectrogram
    for post in ({"refine": NmfRefinement()}, {"reconstruct": Misi()}):
        scored.clear()
        evaluate_all(Separator(network, stft, **post), clips, *settings[0], tmp_path, workers=1)
        assert len(scored) == 2
    scored.clear()
    evaluate_all(tiny_separator, clips, *settings[0], tmp_path, workers=1)
    assert scored == [clips[1].name]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["park2018", "mir1k_8k", "si_sdr", "museval_v4"])
def test_every_protocol_ranks_a_real_clips_oracle_above_the_mixture(
    name: str, mir1k_root: Path, tiny_separator: Separator
) -> None:
    protocol = load_protocol(name)
    rows = evaluate(tiny_separator, mir1k_clips(mir1k_root)[5], protocol, EVERYTHING)
    metric = protocol.metrics[0]
    scores = {(row["system"], row["source"]): row[metric] for row in rows}
    for source in SOURCES:
        assert scores["ideal ratio mask", source] > scores[MIXTURE, source] + 5


def test_what_a_refinement_has_said_is_no_setting(tiny_separator: Separator) -> None:
    tiny_separator.refine = refinement = NmfRefinement(rank=5)
    before = _fingerprint(tiny_separator)
    refinement(torch.ones(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))
    assert refinement._said
    assert _fingerprint(tiny_separator) == before


def test_functions_that_refine_are_told_apart_and_known_again(tiny_separator: Separator) -> None:
    """By their names, and by the arguments of a partial: a journal is not continued with another function's rows."""

    def same(masks: torch.Tensor, magnitude: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
        return factor * masks

    def other(masks: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
        return masks

    found = []
    for refine in (same, other, functools.partial(same, factor=2.0), functools.partial(same, factor=3.0), same):
        tiny_separator.refine = refine
        found.append(_fingerprint(tiny_separator))
    assert len(set(found)) == 4
    assert found[0] == found[-1]


def test_oracles_are_bounds_of_masks_whatever_the_model_does_with_its_own(tiny_separator: Separator) -> None:
    references = synthesize_song(1, 2.0, SAMPLE_RATE_HZ)[:, None]
    other = Separator(tiny_separator.network, tiny_separator.spectrogram, reconstruct=Misi())
    one, two = (
        OracleMask(ideal_ratio_mask)(references.sum(0), references, SAMPLE_RATE_HZ, separator)
        for separator in (tiny_separator, other)
    )
    torch.testing.assert_close(one, two)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="max_similar=0"):
        RepetSim(max_similar=0)
    with pytest.raises(ValueError, match="repet_sim"):
        RepetSim(window_seconds=0)


def four_stems(folder: Path, seconds: float = 1.0, mixture: bool = False) -> Clip:
    stems = {name: noise(2, round(44100 * seconds), seed=n, level=0.1) for n, name in enumerate(FOUR)}
    whole = sum(stems.values()) + 0.01 * noise(2, round(44100 * seconds), seed=9)
    return clip_of(folder, stems, 44100, "a band", whole if mixture else None)


@pytest.fixture
def of_four() -> Separator:
    torch.manual_seed(0)
    return Separator(StackedHourglass(stacks=2, channels=4, depth=1, sources=4), Spectrogram(), sources=FOUR).eval()


@pytest.mark.parametrize("name", ["mir1k", "park2018", "park2018_dsd100", "museval_v4", "si_sdr"])
def test_stereo_songs_of_four_stems_are_scored_by_every_protocol(name: str, of_four: Separator, tmp_path: Path) -> None:
    protocol = load_protocol(name)
    baselines = {key: system for key, system in EVERYTHING.items() if key != "repet_sim"} | {"stack_1": Stack(1)}
    (rows,) = [evaluate(of_four, four_stems(tmp_path / "song", 1.5), protocol, baselines)]
    assert {(r["clip"], r["group"], r["n_samples"], r["seconds"]) for r in rows} == {("song", "a band", 66150, 1.5)}
    assert [r["source"] for r in rows[:4]] == list(FOUR)
    scores = {(r["system"], r["source"]): r[protocol.metrics[0]] for r in rows}
    for source in FOUR:
        assert scores["ideal ratio mask", source] > scores[MIXTURE, source] + 0.1  # noise up to 22 kHz, masks to 4


def test_the_mixtures_file_is_separated_and_scored_unless_the_sum_is_asked_for(
    of_four: Separator, tmp_path: Path
) -> None:
    protocol, clip, given = load_protocol("si_sdr"), four_stems(tmp_path / "song", mixture=True), []

    class Echo:
        def __call__(self, mixture: Tensor, references: Tensor, sample_rate_hz: int, separator: Separator) -> Tensor:
            given.append(mixture)
            return mixture.expand_as(references)

    for rule in ("file", "sum"):
        rows = evaluate(of_four, clip, protocol, {"echo": Echo()}, rule)
        scores = {(r["system"], r["source"]): r["si_sdr"] for r in rows}
        assert all(scores["echo", source] == pytest.approx(scores[MIXTURE, source]) for source in FOUR)
    stems = clip.load()
    torch.testing.assert_close(given[0], stems[MIXTURE])
    torch.testing.assert_close(given[1], stems.stacked(FOUR).sum(0))
    assert not torch.allclose(given[0], given[1], atol=1e-3)


def test_repet_sim_is_refused_for_other_sources_before_a_clip_is_read(of_four: Separator, tmp_path: Path) -> None:
    gone = Clip("gone", "", {name: [Part(tmp_path / "gone.wav")] for name in FOUR})
    with pytest.raises(SettingError, match=r"separate bass, drums, other, vocals: leave it out with ~baselines.repet_"):
        evaluate_all(of_four, [gone], MIR1K, EVERYTHING)
    with pytest.raises(SettingError, match="separate one, two"):
        RepetSim().check(["one", "two"])
    RepetSim().check(["vocals", "instrumental"])
    with pytest.raises(DataError, match=r"gone.wav does not exist"):
        evaluate_all(of_four, [gone], MIR1K, {})
    with pytest.raises(DataError, match="gone has no stem drums, vocals, which the weights separate"):
        evaluate_all(of_four, [Clip("gone", "", {"bass": [], "other": []})], MIR1K, {})


def test_repet_sim_compares_the_frames_of_songs_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    magnitude = torch.rand(20, 150, generator=torch.Generator().manual_seed(0))
    whole = repeating_part(magnitude, 9, 3)
    monkeypatch.setattr("hourglass_sep.scoring.systems._MOST_SIMILARITIES", 150 * 7)
    torch.testing.assert_close(repeating_part(magnitude, 9, 3), whole)
