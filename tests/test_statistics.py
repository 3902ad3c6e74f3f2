"""Rank agreement, its ceilings and its errors, against simulation and hand-worked examples."""

import numpy as np
import pytest
from reference import spearman_by_hand

from begat.core.statistics import (
    ceiling,
    correlation,
    half_samples,
    interval,
    lds,
    permutation_p,
    reliability,
    removed_sum,
    spearman,
)

pytestmark = pytest.mark.numerics


def simulated(generator, subsets, seeds, queries, signal, noise):
    effect = generator.normal(size=(subsets, 1, queries)) * signal
    return effect, effect + noise * generator.normal(size=(subsets, seeds, queries))


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


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_ceiling_is_what_a_perfect_predictor_reaches(seeds):
    generator = np.random.default_rng(0)
    effect, measured = simulated(generator, 400, seeds, 60, 1.0, 1.5)
    perfect = correlation(effect[:, 0].T, measured.mean(1).T).mean()
    assert ceiling(measured) == pytest.approx(perfect, abs=0.02)
    assert reliability(measured) == pytest.approx(1 / (1 + 1.5**2), abs=0.02)


def test_half_samples_find_the_standard_error_over_both_axes():
    generator = np.random.default_rng(0)

    def draw():
        return generator.normal(size=(40, 1)) + generator.normal(size=(1, 25))

    def mean_of(table):
        return lambda rows, columns: np.array(table[np.ix_(rows, columns)].mean())

    errors = [
        interval(float(whole), deviations)["error"]
        for whole, deviations in (
            half_samples(mean_of(draw()), (40, 25), generator, 200) for _ in range(30)
        )
    ]
    assert np.mean(errors) == pytest.approx((1 / 40 + 1 / 25) ** 0.5, rel=0.1)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(200):
        values = generator.normal(size=60)
        whole, deviations = half_samples(
            lambda rows, v=values: np.array(v[rows].mean()), (60,), generator, 100
        )
        found = interval(float(whole), deviations)
        covered.append(found["low"] <= 0 <= found["high"])
    assert np.mean(covered) == pytest.approx(0.95, abs=0.05)


def test_permutations_find_chance_to_be_chance_and_truth_to_be_truth():
    generator = np.random.default_rng(0)
    effect, measured = simulated(generator, 16, 2, 20, 1.0, 0.5)
    assert permutation_p(effect[:, 0], measured, generator, 200) < 0.01
    chance = [
        permutation_p(generator.normal(size=(16, 20)), measured, generator, 50) for _ in range(60)
    ]
    assert np.mean(chance) == pytest.approx(0.5, abs=0.13)


def test_random_scores_have_an_lds_around_zero():
    generator = np.random.default_rng(0)
    removed = (generator.random((24, 100)) < 0.5).astype(float)
    measured = generator.normal(size=(24, 1, 300))
    found = lds(removed_sum(generator.normal(size=(300, 100)), removed), measured)
    assert found.mean() == pytest.approx(0, abs=0.05)
    assert found.std() == pytest.approx(1 / np.sqrt(23), rel=0.15)
