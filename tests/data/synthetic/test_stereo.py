import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hourglass_sep.data.synthetic.band import PLAYERS, Style, play, play_apart, reverberation
from hourglass_sep.data.synthetic.stereo import STEMS, synthesize_stems
from hourglass_sep.data.synthetic.synthesis import PEAK, synthesize_song
from hourglass_sep.data.synthetic.voice import Singer, draw_melody
from hourglass_sep.dsp.stems import Stems
from hourglass_sep.support.errors import SettingError

RATE = 44100


@pytest.fixture(scope="module")
def songs() -> list[Stems]:
    return [synthesize_stems(seed, 4.0) for seed in range(3)]


def share_between(waveform: torch.Tensor, low_hz: float, high_hz: float) -> float:
    """Share of the energy of (C, N) between two frequencies."""
    energy = torch.fft.rfft(waveform.double()).abs().square().sum(0)
    frequencies = torch.fft.rfftfreq(waveform.shape[-1], 1 / RATE)
    return float(energy[(frequencies >= low_hz) & (frequencies < high_hz)].sum() / energy.sum())


def pitch_hz(frame: NDArray) -> float:
    """Frequency of the first high maximum of the autocorrelation, from 90 to 1000 Hz."""
    spectrum = np.fft.rfft(frame - frame.mean(), 2 * frame.size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: frame.size] / (frame.size - np.arange(frame.size))
    lags = np.arange(RATE // 1000, RATE // 90)
    high = lags[correlation[lags] > 0.9 * correlation[lags].max()]
    first = high[: np.append(np.flatnonzero(np.diff(high) > 1), high.size - 1)[0] + 1]
    return float(RATE / first[correlation[first].argmax()])


def test_a_seed_gives_the_same_stems_and_another_seed_others() -> None:
    one, again, other = synthesize_stems(3, 1.5), synthesize_stems(3, 1.5), synthesize_stems(4, 1.5)
    for stem in STEMS:
        assert torch.equal(one[stem], again[stem])
        assert not torch.equal(one[stem], other[stem])


def test_four_stems_are_stereo_finite_and_never_clip(songs: list[Stems]) -> None:
    for song in songs:
        assert tuple(song) == ("vocals", "drums", "bass", "other")
        stacked = song.stacked(tuple(STEMS))
        assert stacked.shape == (4, 2, 4 * RATE)
        assert stacked.dtype == torch.float32
        assert stacked.isfinite().all()
        assert float(max(stacked.abs().max(), stacked.sum(0).abs().max())) == pytest.approx(PEAK, abs=1e-5)


def test_the_parts_of_the_band_add_up_to_the_band_of_two_sources() -> None:
    style = Style.draw(np.random.default_rng(1))
    rng = np.random.default_rng(2)
    parts = play_apart(rng, style, 3 * 8000, 8000)
    assert tuple(parts) == PLAYERS
    dry = np.sum(list(parts.values()), axis=0)
    room = dry + 0.4 * reverberation(rng, dry, style.room_seconds, 8000)
    band = play(np.random.default_rng(2), style, 3 * 8000, 8000)
    np.testing.assert_allclose(room, band, atol=1e-9 * np.abs(band).max())


def test_the_voice_is_that_of_two_sources_and_follows_the_melody() -> None:
    singer, style = Singer.draw(np.random.default_rng(0)), Style.draw(np.random.default_rng(0))
    voice = synthesize_stems(5, 8.0, RATE, singer, style)["vocals"].mean(0).numpy()
    song = synthesize_song(5, 8.0, RATE, singer, style)[1].numpy()
    assert np.corrcoef(voice, song)[0, 1] > 0.95
    wrong = []
    for syllable in draw_melody(np.random.default_rng(5).spawn(1)[0], singer, style, 8.0):
        if syllable.seconds > 0.3 and syllable.start_seconds + syllable.seconds < 8:
            start = int((syllable.start_seconds + 0.6 * syllable.seconds) * RATE)
            sung = 69 + 12 * np.log2(pitch_hz(voice[start : start + RATE // 20]) / 440)
            wrong.append(abs(sung - syllable.midi))
    assert len(wrong) > 5
    assert np.median(wrong) < 0.5


def test_each_stem_has_the_content_of_its_kind(songs: list[Stems]) -> None:
    for song in songs:
        assert share_between(song["bass"], 0, 500) > 0.8
        assert share_between(song["drums"], 0, 150) > 0.05
        assert share_between(song["drums"], 5000, 16000) > 0.01
        assert share_between(song["vocals"], 100, 5000) > 0.9
        assert share_between(song["vocals"], 10000, 16000) > 1e-5
        assert share_between(song["other"], 100, 5000) > 0.9


def test_other_and_drums_are_wide_and_voice_and_bass_in_the_centre(songs: list[Stems]) -> None:
    def side_db(waveform: torch.Tensor) -> float:
        left, right = waveform.double()
        return float(10 * torch.log10((left - right).square().sum() / (left + right).square().sum()))

    for song in songs:
        assert -20 < side_db(song["vocals"]) < -10
        assert -20 < side_db(song["drums"]) < -10
        assert side_db(song["bass"]) < -22
        assert -13 < side_db(song["other"]) < 0


def test_no_gain_and_delay_turn_one_channel_into_the_other(songs: list[Stems]) -> None:
    """The channels' reverberations differ: the coherence of left and right is below one."""
    for song in songs:
        left, right = (torch.stft(channel, 4096, return_complex=True, window=torch.hann_window(4096)) for channel in
                       song["other"])  # fmt: skip
        cross = (left * right.conj()).sum(1).abs() / (left.abs().square().sum(1) * right.abs().square().sum(1)).sqrt()
        loud = left.abs().square().sum(1) > 1e-3 * left.abs().square().sum(1).max()
        assert float(cross[loud].mean()) < 0.98


def test_the_mixture_as_estimate_of_a_stem_scores_as_on_musdb() -> None:
    """Medians of 42 excerpts of MUSDB18 in dB SDR: vocals -3.1, drums -7.6, bass -5.9, other -5.0."""
    scores = []
    for seed in range(12):
        stacked = synthesize_stems(seed, 3.0, 8000).stacked(tuple(STEMS)).double()
        error = stacked - stacked.sum(0)
        scores.append(10 * torch.log10(stacked.square().sum((1, 2)) / error.square().sum((1, 2))))
    assert torch.stack(scores).mean(0).tolist() == pytest.approx([-3.1, -7.6, -5.9, -5.0], abs=2)


@pytest.mark.parametrize(
    ("seconds", "rate", "words"), [(0.5, 44100, "seconds=0.5"), (2.0, 4000, "sample_rate_hz=4000")]
)
def test_stems_that_cannot_be_made_are_refused(seconds: float, rate: int, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        synthesize_stems(0, seconds, rate)
