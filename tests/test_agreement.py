"""Ranking metrics on examples worked by hand, at their maximum, and by chance."""

import math

import numpy as np
import pytest

from begat.evaluation.ranking_metrics import (
    METRICS,
    chance_levels,
    exponential_gain,
    linear_gain,
    mrr,
    ndcg,
    overlap_at_3,
    rbo,
    shared_ranks,
    top1,
    wpra,
)

pytestmark = pytest.mark.numerics

# the reference's order is a b c d; the score's is b d a c
REFERENCE = np.array([[4.0, 3.0, 2.0, 0.0]])
SCORE = np.array([[0.3, 0.9, 0.1, 0.5]])


def test_a_small_example_by_hand():
    assert shared_ranks(SCORE)[0].tolist() == [[3, 1, 4, 2]]
    assert top1(SCORE, REFERENCE) == 0
    assert overlap_at_3(SCORE, REFERENCE) == pytest.approx(2 / 3)  # a, b of a, b, c
    assert mrr(SCORE, REFERENCE) == pytest.approx(1 / 3)
    d2, d3 = 1 / math.log2(3), 1 / 2
    # gains of b, d, a in that order
    assert ndcg(SCORE, REFERENCE, linear_gain) == pytest.approx(
        (3 + 1 * d2 + 4 * d3) / (4 + 3 * d2 + 2 * d3)
    )
    assert ndcg(SCORE, REFERENCE, exponential_gain) == pytest.approx(
        (3 + 0 * d2 + 7 * d3) / (7 + 3 * d2 + 1 * d3)
    )
    # overlaps at depths 1..4: {b}/{a}: 0, {b,d}/{a,b}: 1, {b,d,a}/{a,b,c}: 2, all: 4
    assert rbo(SCORE, REFERENCE) == pytest.approx(
        0.1 * (0 + 0.9 * 1 / 2 + 0.81 * 2 / 3 + 0.729 * 4 / 4)
    )


def test_equal_values_share_their_ranks():
    first, last = shared_ranks(np.array([[2.0, 5.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    assert first.tolist() == [[2, 1, 2, 4], [1, 1, 1, 1]]
    assert last.tolist() == [[3, 1, 3, 4], [4, 4, 4, 4]]


def test_pairs_are_weighted_by_how_far_gold_tells_them_apart():
    # pairs touching a: ab 1 wrong, ac 2 right, ad 4 wrong
    assert wpra(SCORE, REFERENCE, m=1) == pytest.approx(2 / 7)
    # besides bc 1 right, bd 3 right
    assert wpra(SCORE, REFERENCE, m=2) == pytest.approx(6 / 11)
    assert wpra(np.zeros_like(REFERENCE), REFERENCE) == 0.5
    assert wpra(SCORE, np.zeros_like(REFERENCE)) == 0.5
    tiny = wpra(SCORE, REFERENCE * 1e-9, m=2)
    assert tiny == pytest.approx(6 / 11)


@pytest.mark.parametrize("units", [2, 3, 10, 16])
def test_gold_agrees_with_itself_as_far_as_a_metric_goes(units):
    reference = np.random.default_rng(0).normal(size=(20, units))
    for name, metric in METRICS.items():
        best = 1 - 0.9**units if name == "rbo" else 1.0
        np.testing.assert_allclose(metric.per_query(reference, reference), best, err_msg=name)


def test_the_published_chance_levels():
    ten, sixteen = chance_levels(10), chance_levels(16)
    assert [round(ten[m], 3) for m in ("mrr", "ndcg_exp", "ndcg_lin", "rbo")] == [
        0.293,
        0.294,
        0.596,
        0.303,
    ]
    assert [round(sixteen[m], 3) for m in ("mrr", "ndcg_exp", "ndcg_lin", "rbo")] == [
        0.211,
        0.185,
        0.558,
        0.324,
    ]


@pytest.mark.parametrize("units", [4, 10])
def test_random_orders_reach_what_chance_says(units):
    generator = np.random.default_rng(1)
    reference = generator.normal(size=(20_000, units))
    score = generator.normal(size=reference.shape)
    for name, metric in METRICS.items():
        values = metric.per_query(score, reference)
        error = 5 * values.std() / len(values) ** 0.5
        assert abs(values.mean() - metric.chance_level(units)) < error, name


def test_ties_are_worth_what_all_orders_of_the_tied_units_reach_in_the_mean():
    generator = np.random.default_rng(3)
    score = np.array([[2.0, 2.0, 1.0, 2.0, 1.0]])
    reference = np.array([[0.1, 0.5, 0.5, 0.2, 0.9]])
    orders = 4000
    near = [values + 1e-9 * generator.normal(size=(orders, 5)) for values in (score, reference)]
    for name, metric in METRICS.items():
        if name == "spearman":  # ties at their mean rank, which is not linear in the ranks
            continue
        values = metric.per_query(*near)
        error = 5 * values.std() / orders**0.5 + 1e-8
        assert abs(metric.per_query(score, reference)[0] - values.mean()) < error, name


def test_a_score_that_ties_all_units_reaches_chance_whichever_unit_is_best():
    for best in (0, 4):
        reference = np.arange(5.0)[None]
        reference[0, best] = 9
        for name, metric in METRICS.items():
            assert metric.per_query(reference * 0, reference)[0] == pytest.approx(
                chance_levels(5)[name]
            ), name


def test_thousands_of_units_overflow_nothing():
    reference = np.random.default_rng(0).normal(size=(2, 1100))
    score = reference + np.random.default_rng(1).normal(size=reference.shape)
    for name, level in chance_levels(1100).items():
        values = METRICS[name].per_query(score, reference)
        assert np.isfinite(values).all(), name
        assert np.isfinite(level), name
        assert METRICS[name].per_query(reference, reference) == pytest.approx(1, abs=1e-9), name
    assert chance_levels(1100)["ndcg_exp"] < chance_levels(1100)["ndcg_lin"]
