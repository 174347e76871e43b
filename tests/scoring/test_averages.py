import math

import pytest

from hourglass_sep.scoring.averages import AVERAGES, average, average_score


def test_the_averages_are_those_that_protocols_name() -> None:
    values, lengths = [1.0, 2.0, 9.0, 4.0], [1, 1, 2, 4]
    assert average(values, lengths, "length_weighted_mean") == pytest.approx(37 / 8)
    assert average(values, lengths, "mean") == 4
    assert average(values, lengths, "median") == 3
    assert average(values[:3], lengths[:3], "median") == 2
    assert math.isnan(average([], [], "mean"))


def test_gnsdr_weighs_clips_by_their_length() -> None:
    assert average_score([1.0, 4.0], [30000, 60000], "length_weighted_mean") == pytest.approx(3.0)


@pytest.mark.parametrize(("kind", "expected"), {"length_weighted_mean": 3, "mean": 5, "median": 4}.items())
def test_what_is_no_score_or_means_nothing_is_left_out(kind: str, expected: float) -> None:
    values, lengths = [1.0, math.nan, 290.0, 4.0, 10.0, -math.inf], [30000, 99, 99, 60000, 1, 7]
    assert average_score(values, lengths, kind) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", AVERAGES)
def test_the_average_of_no_score_is_none(kind: str) -> None:
    assert math.isnan(average_score([math.nan], [10], kind))
    assert math.isnan(average_score([], [], kind))


def test_what_does_not_fit_together_is_named() -> None:
    with pytest.raises(ValueError, match="one each"):
        average_score([1.0], [1, 2], "mean")
    with pytest.raises(ValueError, match="above 0"):
        average_score([1.0, 2.0], [1, 0], "mean")
    with pytest.raises(ValueError, match="'best' is not allowed: choose from length_weighted_mean, mean, median"):
        average_score([1.0], [1], "best")
