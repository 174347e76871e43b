import csv
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from hourglass_sep.audio import resample
from hourglass_sep.dsp.stems import MIXTURE
from hourglass_sep.scoring.metrics import bss_eval_sources, si_sdr
from hourglass_sep.scoring.protocols import load_protocol
from hourglass_sep.support.errors import UserError
from hourglass_sep.support.paths import CONFIG_DIR
from tests.helpers.runs import composed
from tests.helpers.sounds import museval_bss_eval, musevals, noise

STUDY = Path(__file__).parents[2] / "experiments" / "protocols"
NAMES = sorted(path.stem for path in (CONFIG_DIR / "protocol").glob("*.yaml"))


def changed(*overrides: str) -> Any:
    return instantiate(composed("evaluate", *overrides).protocol)


def test_the_protocols_are_those_of_the_field() -> None:
    assert {"mir1k", "park2018", "park2018_dsd100", "mir1k_8k", "si_sdr", "museval_v4"} <= set(NAMES)
    assert composed("evaluate").protocol.name == "mir1k"


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_is_named_as_its_file_and_says_what_it_does(name: str) -> None:
    protocol = load_protocol(name)
    assert protocol.name == name
    assert len(protocol.description.split()) > 8
    assert set(protocol.headline) <= set(protocol.metrics)
    assert "\n" not in protocol.description


def test_protocols_have_hashes_of_their_own_that_do_not_change_by_themselves() -> None:
    hashes = {name: load_protocol(name).hash for name in NAMES}
    assert len(set(hashes.values())) == len(NAMES)
    assert hashes["mir1k"] == "73f0f013"  # recorded beside scores: a change makes them incomparable


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("mir1k", "protocol.filter_length=256"),
        ("mir1k", "protocol.permute=true"),
        ("mir1k", "protocol.mixture=mean"),
        ("mir1k", "protocol.average=mean"),
        ("mir1k", "protocol.sample_rate_hz=8000"),
        ("mir1k", "+protocol.channels=mono"),
        ("museval_v4", "protocol.window_seconds=2"),
        ("museval_v4", "protocol.hop_seconds=0.5"),
    ],
)
def test_whatever_changes_scores_changes_the_hash(name: str, override: str) -> None:
    assert changed(f"protocol={name}", override).hash != load_protocol(name).hash


def test_words_do_not_change_the_hash() -> None:
    assert changed("protocol.name=other", "protocol.description=other").hash == load_protocol("mir1k").hash


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("protocol.filter_length=0", "protocol.filter_length=0"),
        ("protocol.filter_length=100000", "at most 4096"),
        ("protocol.mixture=product", "sum, mean"),
        ("protocol.average=best", "length_weighted_mean"),
        ("+protocol.channels=stereo", "protocol.channels='stereo' is not allowed: choose from mono"),
        ("protocol.permute=3", "protocol.permute=3"),
        ("protocol.sample_rate_hz=-1", "protocol.sample_rate_hz=-1"),
    ],
)
def test_settings_that_do_not_exist_are_named(override: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        changed(override)
    with pytest.raises(Exception, match=r"hop_seconds=0"):
        changed("protocol=museval_v4", "protocol.hop_seconds=0")


def test_an_unknown_protocol_is_named_with_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"'mirk' is not known: choose from mir1k"):
        load_protocol("mirk")


def test_mir1k_does_not_forgive_swapped_sources_and_park2018_does() -> None:
    references = noise(2, 1, 4000)
    estimates = {"swapped": references.flip(0) + 0.1 * noise(2, 1, 4000, seed=1)}
    strict = load_protocol("mir1k").score(references, estimates, 16000)["swapped"]
    lenient = load_protocol("park2018").score(references, estimates, 16000)["swapped"]
    assert float(strict["sdr"].max()) < 0
    assert float(lenient["sdr"].min()) > 15
    expected = bss_eval_sources(references, estimates["swapped"], permute=True).sdr
    torch.testing.assert_close(lenient["sdr"], expected)


def test_the_mixture_is_the_sum_or_the_mean_of_the_references() -> None:
    references = noise(2, 1, 10)
    torch.testing.assert_close(load_protocol("mir1k").mixture(references), references[0] + references[1])
    torch.testing.assert_close(load_protocol("park2018").mixture(references), (references[0] + references[1]) / 2)


def test_mir1k_8k_does_not_hear_what_lies_above_4_khz() -> None:
    references = resample(noise(2, 1, 16000), 16000, 16000)
    noise_above = torch.fft.rfft(noise(2, 1, 16000, seed=1))
    noise_above[..., :4400] = 0  # bins of 1 Hz
    estimates = {"model": references + torch.fft.irfft(noise_above).float()}
    wide = load_protocol("mir1k").score(references, estimates, 16000)["model"]["sdr"]
    narrow = load_protocol("mir1k_8k").score(references, estimates, 16000)["model"]["sdr"]
    assert float(wide.max()) < 10
    assert float(narrow.min()) > 35


def test_si_sdr_is_the_function_and_its_gain_over_the_mixture() -> None:
    references = noise(2, 1, 4000)
    estimate = references + 0.2 * noise(2, 1, 4000, seed=1)
    scores = load_protocol("si_sdr").score(references, {"model": estimate}, 16000)
    expected = si_sdr(references, estimate)
    torch.testing.assert_close(scores["model"]["si_sdr"], expected)
    mixture = si_sdr(references, references.sum(0).expand_as(references))
    torch.testing.assert_close(scores["model"]["si_sdri"], expected - mixture)
    torch.testing.assert_close(scores[MIXTURE]["si_sdri"], torch.zeros(2, dtype=torch.float64))


def test_museval_v4_is_the_median_of_musevals_windows_and_does_not_forgive_a_gain() -> None:
    references = noise(2, 2, 40000)
    references[0, :, 8000:18000] = 0  # a silent window
    estimate = references + 0.3 * references.flip(0) + 0.1 * noise(2, 2, 40000, seed=1)
    protocol = load_protocol("museval_v4")
    scores = protocol.score(references, {"model": estimate, "half": 0.5 * estimate}, 8000)
    arrays = [x.double().movedim(1, 2).numpy() for x in (references, estimate)]
    theirs = museval_bss_eval(*arrays, window=8000, hop=8000)[:4]
    for name, values in zip(("sdr", "isr", "sir", "sar"), theirs, strict=True):
        assert np.isnan(values).any()
        np.testing.assert_allclose(scores["model"][name].numpy(), np.nanmedian(values, axis=1), atol=1e-6)
    assert bool((scores["half"]["sdr"] < 6.1).all())


def test_a_hop_shorter_than_the_window_gives_more_windows_as_in_museval() -> None:
    references = noise(2, 1, 20000)
    estimate = references + torch.linspace(0, 1, 20000) * noise(2, 1, 20000, seed=1)
    scores = changed("protocol=museval_v4", "protocol.hop_seconds=0.3").score(references, {"model": estimate}, 8000)
    arrays = [x.double().movedim(1, 2).numpy() for x in (references, estimate)]
    expected = np.nanmedian(museval_bss_eval(*arrays, window=8000, hop=2400)[0], axis=1)
    np.testing.assert_allclose(scores["model"]["sdr"].numpy(), expected, atol=1e-6)


def test_descriptions_follow_the_settings() -> None:
    assert "256 taps" in changed("protocol.filter_length=256").description
    assert "windows of 2 s" in changed("protocol=museval_v4", "protocol.window_seconds=2").description


def test_the_docs_name_every_protocol_with_its_hash() -> None:
    text = (STUDY / "README.md").read_text()
    for name in NAMES:
        assert f"| `{name}` | {load_protocol(name).hash} |" in text


def test_the_numbers_in_the_docs_are_those_on_record() -> None:
    with (STUDY / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    recorded = {(r["protocol"], r["system"], r["source"], r["metric"]): r for r in rows}
    header, _, *lines = re.findall(r"^\| .* \|$|^\|-.*\|$", (STUDY / "README.md").read_text().split("in dB:")[1], re.M)
    columns = re.findall(r"`(\w+)` ([\w-]+)", header)
    assert [name for name, _ in columns] == ["mir1k", "park2018", "mir1k_8k", "si_sdr", "museval_v4"]
    names = {"REPET-SIM": "repet sim", "default weights": "model", "phase-sensitive mask": "phase sensitive mask"}
    assert len(lines) == 6
    for line in lines:
        label, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        for (protocol, metric), cell in zip(columns, cells, strict=True):
            key = names.get(label, label)
            values = [recorded[protocol, key, source, metric]["value"] for source in ("vocals", "accompaniment")]
            assert cell == " / ".join(f"{float(value):.2f}" for value in values), (label, protocol)
    assert {r["hash"] for r in rows} == {load_protocol(name).hash for name in {name for name, _ in columns}}


def test_park2018_dsd100_is_mir_evals_sdr_of_each_source_alone_averaged_to_mono_and_upsampled() -> None:
    """As the paper's code: one reference and one estimate at a time, the mean of the channels, at the song's rate."""
    references = noise(4, 2, 9000)
    estimates = resample(references + 0.5 * references.roll(1, 0) + 0.2 * noise(4, 2, 9000, seed=1), 44100, 8000)
    upsampled = resample(estimates, 8000, 44100, 9000)
    protocol = load_protocol("park2018_dsd100")
    found = protocol.score(references, {"model": upsampled}, 44100)["model"]["sdr"]
    theirs = [musevals(references[s].mean(0)[None], upsampled[s].mean(0)[None])[0][0] for s in range(4)]
    np.testing.assert_allclose(found.numpy(), theirs, atol=1e-6)
    assert (protocol.average, next(iter(protocol.headline.items()))) == ("median", ("sdr", "SDR"))


def test_a_mixture_that_is_given_is_scored_in_place_of_the_sum() -> None:
    references, given = noise(2, 1, 4000), noise(1, 4000, seed=1)
    for name in NAMES:
        scores = load_protocol(name).score(references, {"model": given.expand_as(references)}, 8000, given)
        metric = load_protocol(name).metrics[0]
        torch.testing.assert_close(scores[MIXTURE][metric], scores["model"][metric], atol=1e-6, rtol=0)


def test_systems_are_compared_one_by_one_where_they_are_long_with_equal_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    references = noise(3, 2, 4000)
    systems = {f"system {seed}": references + noise(3, 2, 4000, seed=seed) for seed in (1, 2, 3)}
    at_once = load_protocol("mir1k").score(references, systems, 8000)
    held: list[int] = []

    class Lazy(dict[str, torch.Tensor]):
        def __getitem__(self, name: str) -> torch.Tensor:
            held.append(sum(reference() is not None for reference in made))
            estimate = super().__getitem__(name).clone()
            made.append(weakref.ref(estimate))
            return estimate

    made: list[weakref.ref[torch.Tensor]] = []
    monkeypatch.setattr("hourglass_sep.scoring.protocols._MOST_VALUES", 1)
    apart = load_protocol("mir1k").score(references, Lazy(systems), 8000)
    assert held == [0, 0, 0]  # each is released before the next is asked for
    for name, scores in at_once.items():
        for metric, values in scores.items():
            if (name, metric) != (MIXTURE, "sar"):
                torch.testing.assert_close(apart[name][metric], values, atol=1e-7, rtol=0)
