"""Intervals, exclusion and equal budgets against scipy, enumeration and simulation."""

from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy import stats

from sparselimit.statistics import (
    best_quantiles,
    excluded_rate,
    expected_best,
    keeps_accuracy,
    power,
    wilson,
)
from tests.unit.refusals import refused


@pytest.mark.parametrize("n", [100, 300, 360, 5000])
def test_an_accuracy_is_kept_by_counts(n: int) -> None:
    """A fall of exactly 1% is within 1%, one point more is not, whatever the quotients round to."""
    own, fall = np.arange(n // 2, n + 1), n // 100
    assert keeps_accuracy((own - fall) / n, own / n, fall / n).all()
    assert not keeps_accuracy((own - fall - 1) / n, own / n, fall / n).any()
    assert keeps_accuracy(own / n, own[0] / n, 0.0).all()


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_wilson_is_scipys(confidence: float) -> None:
    pairs = np.array([(k, n) for n in (1, 2, 7, 300) for k in {0, 1, n // 2, n - 1, n}])
    low, high = wilson(pairs[:, 0], pairs[:, 1], confidence)
    expected = [
        stats.binomtest(int(k), int(n)).proportion_ci(confidence, method="wilson") for k, n in pairs
    ]
    np.testing.assert_allclose(np.stack([low, high], axis=1), expected, atol=1e-14)


def test_without_trials_every_rate_is_open() -> None:
    low, high = wilson([0, 3], [0, 4])
    assert (low[0], high[0]) == (0, 1)
    assert 0 < low[1] < 0.75 < high[1] < 1


def test_excluded_rate_solves_its_equation() -> None:
    trials = np.array([1, 2.5, 30, 1e6])
    for confidence in (0.5, 0.95):
        rate = excluded_rate(trials, confidence)
        np.testing.assert_allclose((1 - rate) ** trials, 1 - confidence, rtol=1e-9)
    assert excluded_rate(0) == 1
    # The rule of three: 3 / p failures suffice.
    rates = np.array([0.5, 0.1, 0.01])
    assert (excluded_rate(np.ceil(3 / rates)) <= rates).all()


def test_power_is_the_share_of_searches_that_succeed() -> None:
    rng = np.random.default_rng(0)
    for rate, trials in ((0.01, 50), (0.1, 5), (0.3, 12)):
        found = (rng.random((40_000, trials)) < rate).any(axis=1).mean()
        assert power(rate, trials) == pytest.approx(found, abs=4 * np.sqrt(0.25 / 40_000))
    assert power([0, 1], [9, 1]).tolist() == [0, 1]
    np.testing.assert_allclose(power(excluded_rate(77), 77), 0.95)


@pytest.mark.parametrize("budget", range(1, 8))
def test_expected_best_is_the_mean_over_all_subsamples(budget: int) -> None:
    values = [0.5, 0.9, 0.5, 0.71, 0.2, 0.9, -1.0]
    best = [max(drawn) for drawn in combinations(values, budget)]
    assert expected_best(values, budget) == pytest.approx(np.mean(best), rel=1e-12)


def test_expected_best_of_many() -> None:
    """Of the numbers 1..n it is B (n + 1) / (B + 1), whatever their order."""
    n = 200_000
    values = np.random.default_rng(0).permutation(n) + 1
    for budget in (1, 10, n // 2, n):
        expected = budget * (n + 1) / (budget + 1)
        assert expected_best(values, budget) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("budget", [1, 2, 5, 8])
def test_best_quantiles_are_those_over_all_subsamples(budget: int) -> None:
    values = np.array([0.5, 0.5, 0.61, 0.7, 0.7, 0.84, 0.9, 0.95])
    best = [max(drawn) for drawn in combinations(values, budget)]
    levels = [0.01, 0.31, 0.5, 0.83, 0.999]  # none falls on a jump, where rounding would decide
    expected = np.quantile(best, levels, method="inverted_cdf")
    np.testing.assert_array_equal(best_quantiles(values, budget, levels), expected)


@pytest.mark.parametrize("budget", [1, 2, 7])
def test_best_quantiles_of_many_jump_where_they_should(budget: int) -> None:
    """At C(i, B) / C(n, B), in fractions; just below it another value is the quantile."""
    n = 1_000_000
    for i in (n // 3, n // 2, n - n // 7, n - 1):
        jump = Fraction(comb(i, budget), comb(n, budget))
        levels = [float(jump * (1 - Fraction(1, 10**10))), float(jump * (1 + Fraction(1, 10**10)))]
        assert best_quantiles(np.arange(1, n + 1), budget, levels).tolist() == [i, i + 1]


def test_impossible_counts_are_refused() -> None:
    with refused("5 of 4"):
        wilson([1, 5], 4)
    with refused("confidence 95"):
        wilson(1, 4, 95)
    with refused("trials -1"):
        excluded_rate(-1)
    with refused("rate"):
        power(1.1, 3)
    for budget in (0, 4):
        with refused(f"budget {budget}", "1 to 3"):
            expected_best([1, 2, 3], budget)
