import math

import numpy as np
import pytest

from hourglass_sep.results import bootstrap
from hourglass_sep.results.bootstrap import interval, paired_interval
from hourglass_sep.scoring.averages import AVERAGES, average

RNG = np.random.default_rng(7)
SCORES = RNG.normal(9.0, 3.0, 60)
LENGTHS = RNG.integers(50_000, 190_000, 60)


@pytest.mark.parametrize("kind", AVERAGES)
def test_an_interval_is_that_of_a_bootstrap_written_as_a_loop(kind: str) -> None:
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(3000):
        drawn = rng.integers(len(SCORES), size=len(SCORES))
        draws.append(
            {
                "length_weighted_mean": np.average(SCORES[drawn], weights=LENGTHS[drawn]),
                "mean": SCORES[drawn].mean(),
                "median": np.median(SCORES[drawn]),
            }[kind]
        )
    result = interval(SCORES, LENGTHS, kind)
    assert [result.low, result.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]).tolist(), abs=0.12)
    assert result.value == average(SCORES, LENGTHS, kind)
    assert result.clips == 60


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(3)
    results = [interval(rng.normal(5.0, 2.0, 100), np.full(100, 9), "mean", seed=k) for k in range(200)]
    assert 0.90 <= np.mean([result.low <= 5.0 <= result.high for result in results]) <= 0.98


def test_clips_are_drawn_together_with_their_lengths() -> None:
    # One clip is nearly all of the length: draws without it average 0, draws with it nearly 10.
    result = interval([10.0] + [0.0] * 9, [10**6] + [1] * 9, "length_weighted_mean")
    assert result.low == 0
    assert result.high > 9.99
    # Where only the long clips are good, weights that stayed behind would give about 5.
    lengths = np.array([1, 1000] * 30)
    result = interval(np.where(lengths == 1, 0.0, 10.0), lengths, "length_weighted_mean")
    assert result.low > 9.9


def test_a_paired_difference_forgets_how_hard_the_clips_are() -> None:
    better = SCORES + 0.5 + 0.1 * np.random.default_rng(2).normal(size=60)
    for kind in ("length_weighted_mean", "mean"):
        paired = paired_interval(better, SCORES, LENGTHS, kind)
        alone = interval(better, LENGTHS, kind)
        assert paired.value == pytest.approx(average(better, LENGTHS, kind) - average(SCORES, LENGTHS, kind))
        assert 0.4 < paired.low < paired.value < paired.high < 0.6
        assert alone.high - alone.low > 10 * (paired.high - paired.low)
        assert paired_interval(SCORES, better, LENGTHS, kind).value == -paired.value


def test_drawing_singers_widens_the_interval_where_their_clips_are_alike() -> None:
    singers = [f"singer {k // 10}" for k in range(60)]
    alike = np.repeat([4.0, 6.0, 8.0, 10.0, 12.0, 14.0], 10)
    by_clip, by_singer = (interval(alike, np.full(60, 5), "mean", groups) for groups in (None, singers))
    assert by_clip.value == by_singer.value == 9
    # The standard error of the mean of 6 independent singers is the square root of 10 that of 60 clips.
    assert by_singer.high - by_singer.low == pytest.approx(math.sqrt(10) * (by_clip.high - by_clip.low), rel=0.15)


def test_groups_of_one_clip_each_are_clips() -> None:
    names = [str(k) for k in range(60)]
    assert interval(SCORES, LENGTHS, "median", names) == interval(SCORES, LENGTHS, "median")


def test_the_seed_alone_decides_the_draws() -> None:
    first, again, other = (interval(SCORES, LENGTHS, "mean", seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.low != other.low


def test_there_is_no_interval_where_there_is_nothing_to_draw_from() -> None:
    one = interval([3.0], [10], "mean")
    assert one.value == 3
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(interval([3.0, 4.0], [10, 10], "mean", ["amy", "amy"]).low)
    none = interval([], [], "median")
    assert math.isnan(none.value)
    assert none.clips == 0


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="mode"):
        interval([1.0], [1], "mode")
    with pytest.raises(ValueError, match="one each"):
        interval([1.0, 2.0], [1], "mean")
    with pytest.raises(ValueError, match="one each"):
        interval([1.0, 2.0], [1, 1], "mean", ["amy"])
    with pytest.raises(ValueError, match="one each"):
        paired_interval([1.0, 2.0], [1.0], [1, 1], "mean")


@pytest.mark.parametrize("kind", AVERAGES)
@pytest.mark.parametrize("groups", [None, [f"singer {k % 7}" for k in range(50)]])
def test_draws_in_blocks_are_the_draws_of_one_table(
    kind: str, groups: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    values, lengths = rng.normal(5, 3, 50), rng.integers(50_000, 190_000, 50)
    whole = bootstrap.interval(values, lengths, kind, groups)
    bootstrap._draw.cache_clear()
    monkeypatch.setattr(bootstrap, "_BLOCK_CELLS", 50 * 77)
    assert bootstrap.interval(values, lengths, kind, groups) == pytest.approx(whole, rel=1e-12)
    bootstrap._draw.cache_clear()
