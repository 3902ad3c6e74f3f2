"""Rank agreement, its errors and p-values, against simulation and hand-worked examples."""

import numpy as np
import pytest
from reference import spearman_by_hand

from begat.evaluation.intervals import (
    compare_methods,
    confidence_interval,
    half_sampling,
    permutation_p_value,
)
from begat.evaluation.statistics import (
    correlation,
    lds,
    q_values,
    reliability,
    removed_sum,
    spearman,
)

pytestmark = pytest.mark.numerics


def test_true_additive_effects_predict_retraining_perfectly():
    generator = np.random.default_rng(0)
    effect = generator.normal(size=(5, 30))  # query, unit
    removed = generator.random((20, 30)) < 0.5
    measured = (7.0 + removed @ effect.T)[:, None]
    predicted = removed_sum(effect, removed.astype(float))
    np.testing.assert_allclose(lds(predicted, measured), 1)
    np.testing.assert_allclose(lds(-predicted, measured), -1)


def test_summing_over_removed_units_ranks_as_the_negated_sum_over_kept_ones():
    generator = np.random.default_rng(0)
    score = generator.normal(size=(4, 30))
    removed = np.zeros((12, 30))
    for row in removed:
        row[generator.permutation(30)[:15]] = 1
    gone, kept = removed_sum(score, removed), -removed_sum(score, 1 - removed)
    np.testing.assert_allclose(spearman(gone.T, kept.T), 1)


def test_a_constant_added_to_a_querys_scores_changes_nothing_at_fixed_subset_size():
    generator = np.random.default_rng(0)
    score = generator.normal(size=(4, 30))
    removed = np.zeros((12, 30))
    for row in removed:
        row[generator.permutation(30)[:15]] = 1
    measured = generator.normal(size=(12, 2, 4))
    expected = lds(removed_sum(score, removed), measured)
    np.testing.assert_allclose(lds(removed_sum(score + 100, removed), measured), expected)
    np.testing.assert_allclose(lds(removed_sum(score * 3, removed), measured), expected)


def test_rank_correlation_is_that_counted_by_hand():
    a, b = [3.0, 1.0, 1.0, 5.0, 2.0], [0.1, 0.3, 0.2, 0.2, 0.0]
    assert spearman(np.array(a), np.array(b)) == pytest.approx(spearman_by_hand(a, b))


def test_a_constant_prediction_is_worth_nothing_and_no_warning():
    assert correlation(np.ones(5), np.arange(5.0)) == 0


def test_reliability_is_the_share_of_signal_in_one_seeds_variance():
    generator = np.random.default_rng(0)
    effect = generator.normal(size=(400, 1, 60))
    measured = effect + 1.5 * generator.normal(size=(400, 3, 60))
    assert reliability(measured) == pytest.approx(1 / (1 + 1.5**2), abs=0.02)


def test_half_sampling_estimates_the_standard_error_over_both_axes():
    generator = np.random.default_rng(0)

    def draw():
        return generator.normal(size=(40, 1)) + generator.normal(size=(1, 25))

    def mean_of(table):
        return lambda rows, columns: np.array(table[np.ix_(rows, columns)].mean())

    errors = [
        confidence_interval(float(whole), deviations)["error"]
        for whole, deviations in (
            half_sampling(mean_of(draw()), (40, 25), generator, 200) for _ in range(30)
        )
    ]
    assert np.mean(errors) == pytest.approx((1 / 40 + 1 / 25) ** 0.5, rel=0.1)


@pytest.mark.parametrize("n", [4, 5, 7, 12])
def test_intervals_of_small_samples_are_neither_too_narrow_nor_too_wide(n):
    generator = np.random.default_rng(n)
    squares = []
    for values in generator.normal(size=(150, n)):
        whole, deviations = half_sampling(
            lambda rows, v=values: np.array(v[rows].mean()), (n,), generator, 60
        )
        squares.append(confidence_interval(float(whole), deviations)["error"] ** 2)
    assert np.mean(squares) == pytest.approx(1 / n, rel=0.2)


@pytest.mark.parametrize("sizes", [(1,), (3,), (3, 60), (60, 2)])
def test_fewer_than_four_on_an_axis_give_no_interval(sizes):
    table = np.random.default_rng(0).normal(size=sizes)
    whole, deviations = half_sampling(
        lambda *indices: np.array(table[np.ix_(*indices)].mean()),
        sizes,
        np.random.default_rng(0),
        20,
    )
    row = confidence_interval(float(whole), deviations)
    assert row == {"value": pytest.approx(table.mean()), "error": None, "low": None, "high": None}


def test_a_statistic_that_depends_on_how_many_there_are_has_no_wider_interval_for_that():
    whole, deviations = half_sampling(
        lambda rows: np.array(1 / len(rows)), (20,), np.random.default_rng(0), 20
    )
    assert whole == 0.05
    assert confidence_interval(float(whole), deviations)["error"] < 1e-12


def test_intervals_cover_the_truth_as_often_as_their_level():
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(200):
        values = generator.normal(size=60)
        whole, deviations = half_sampling(
            lambda rows, v=values: np.array(v[rows].mean()), (60,), generator, 100
        )
        interval = confidence_interval(float(whole), deviations)
        covered.append(interval["low"] <= 0 <= interval["high"])
    assert np.mean(covered) == pytest.approx(0.95, abs=0.05)


def test_a_p_value_counts_the_permutations_that_reach_the_value_up_to_rounding():
    permuted = np.array([0.1, 0.5 - 1e-15, 0.5, 0.7, -0.2, 0.0, 0.3, 0.4, 0.45])
    assert permutation_p_value(0.5, permuted) == 0.4
    assert permutation_p_value(0.9, permuted) == 0.1


def test_differences_are_those_of_the_same_halves_and_permutations():
    deviations = np.random.default_rng(0).normal(size=(50, 1)) + np.zeros(2)
    permuted = np.random.default_rng(1).normal(size=(99, 1)) + np.zeros(2)
    values, baselines = np.array([0.9, 0.2]), {"minus_b": "b"}
    rows = compare_methods(["a", "b"], values, deviations, permuted, baselines)
    assert rows["a"]["error"] == pytest.approx(1, rel=0.2)
    difference = rows["a"]["minus_b"]
    assert difference["low"] == difference["high"] == pytest.approx(0.7)
    assert difference["p"] == 0.01
    assert "minus_b" not in rows["b"]


def test_random_scores_have_an_lds_around_zero():
    generator = np.random.default_rng(0)
    removed = (generator.random((24, 100)) < 0.5).astype(float)
    measured = generator.normal(size=(24, 1, 300))
    values = lds(removed_sum(generator.normal(size=(300, 100)), removed), measured)
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert values.std() == pytest.approx(1 / np.sqrt(23), rel=0.15)


def test_a_q_value_is_the_smallest_rate_at_which_a_p_value_is_significant():
    p_value = np.array([0.9, 0.01, 0.04, 0.02, 0.5])
    n, ordered = len(p_value), np.sort(p_value)
    expected = [
        min(1, *(p * n / rank for rank, p in enumerate(ordered, 1) if p >= mine))
        for mine in p_value
    ]
    np.testing.assert_allclose(q_values(p_value), expected)


def test_of_images_without_an_effect_some_is_significant_one_time_in_ten():
    generator = np.random.default_rng(0)
    runs = [(q_values(generator.random(300)) <= 0.1).any() for _ in range(400)]
    assert np.mean(runs) == pytest.approx(0.1, abs=0.05)
    strong = np.append(generator.random(297), [1e-6] * 3)
    assert (q_values(strong)[-3:] <= 0.1).all()
