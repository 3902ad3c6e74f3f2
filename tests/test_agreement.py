"""Ranking metrics on examples worked by hand, at their maximum, and by chance."""

import math

import numpy as np
import pytest

from begat.evaluation.ranking_metrics import (
    METRICS,
    chance,
    exponential_gain,
    linear_gain,
    mrr,
    ndcg,
    rbo,
    shared_ranks,
    top1,
    top3,
    wpra,
)

pytestmark = pytest.mark.numerics

# gold's order is a b c d; the score's is b d a c
GOLD = np.array([[4.0, 3.0, 2.0, 0.0]])
SCORE = np.array([[0.3, 0.9, 0.1, 0.5]])


def test_a_small_example_by_hand():
    assert shared_ranks(SCORE)[0].tolist() == [[3, 1, 4, 2]]
    assert top1(SCORE, GOLD) == 0
    assert top3(SCORE, GOLD) == pytest.approx(2 / 3)  # a, b of a, b, c
    assert mrr(SCORE, GOLD) == pytest.approx(1 / 3)
    d2, d3 = 1 / math.log2(3), 1 / 2
    # gains of b, d, a in that order
    assert ndcg(SCORE, GOLD, linear_gain) == pytest.approx(
        (3 + 1 * d2 + 4 * d3) / (4 + 3 * d2 + 2 * d3)
    )
    assert ndcg(SCORE, GOLD, exponential_gain) == pytest.approx(
        (3 + 0 * d2 + 7 * d3) / (7 + 3 * d2 + 1 * d3)
    )
    # overlaps at depths 1..4: {b}/{a}: 0, {b,d}/{a,b}: 1, {b,d,a}/{a,b,c}: 2, all: 4
    assert rbo(SCORE, GOLD) == pytest.approx(0.1 * (0 + 0.9 * 1 / 2 + 0.81 * 2 / 3 + 0.729 * 4 / 4))


def test_equal_values_share_their_ranks():
    first, last = shared_ranks(np.array([[2.0, 5.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    assert first.tolist() == [[2, 1, 2, 4], [1, 1, 1, 1]]
    assert last.tolist() == [[3, 1, 3, 4], [4, 4, 4, 4]]


def test_pairs_are_weighted_by_how_far_gold_tells_them_apart():
    # pairs touching a: ab 1 wrong, ac 2 right, ad 4 wrong
    assert wpra(SCORE, GOLD, m=1) == pytest.approx(2 / 7)
    # besides bc 1 right, bd 3 right
    assert wpra(SCORE, GOLD, m=2) == pytest.approx(6 / 11)
    assert wpra(np.zeros_like(GOLD), GOLD) == 0.5
    assert wpra(SCORE, np.zeros_like(GOLD)) == 0.5
    tiny = wpra(SCORE, GOLD * 1e-9, m=2)
    assert tiny == pytest.approx(6 / 11)


@pytest.mark.parametrize("units", [2, 3, 10, 16])
def test_gold_agrees_with_itself_as_far_as_a_metric_goes(units):
    gold = np.random.default_rng(0).normal(size=(20, units))
    for name, metric in METRICS.items():
        best = 1 - 0.9**units if name == "rbo" else 1.0
        np.testing.assert_allclose(metric(gold, gold), best, err_msg=name)


def test_the_published_chance_levels():
    ten, sixteen = chance(10), chance(16)
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
    gold = generator.normal(size=(20_000, units))
    score = generator.normal(size=gold.shape)
    for name, metric in METRICS.items():
        found = metric(score, gold)
        error = 5 * found.std() / len(found) ** 0.5
        assert abs(found.mean() - chance(units)[name]) < error, name


def test_ties_are_worth_what_all_orders_of_the_tied_units_reach_in_the_mean():
    generator = np.random.default_rng(3)
    score = np.array([[2.0, 2.0, 1.0, 2.0, 1.0]])
    gold = np.array([[0.1, 0.5, 0.5, 0.2, 0.9]])
    some = 4000
    near = [values + 1e-9 * generator.normal(size=(some, 5)) for values in (score, gold)]
    for name, metric in METRICS.items():
        if name == "spearman":  # ties at their mean rank, which is not linear in the ranks
            continue
        values = metric(*near)
        error = 5 * values.std() / some**0.5 + 1e-8
        assert abs(metric(score, gold)[0] - values.mean()) < error, name


def test_a_score_that_ties_all_units_reaches_chance_whichever_unit_is_best():
    for best in (0, 4):
        gold = np.arange(5.0)[None]
        gold[0, best] = 9
        for name, metric in METRICS.items():
            assert metric(gold * 0, gold)[0] == pytest.approx(chance(5)[name]), name


def test_thousands_of_units_overflow_nothing():
    gold = np.random.default_rng(0).normal(size=(2, 1100))
    score = gold + np.random.default_rng(1).normal(size=gold.shape)
    for name, level in chance(1100).items():
        found = METRICS[name](score, gold)
        assert np.isfinite(found).all(), name
        assert np.isfinite(level), name
        assert METRICS[name](gold, gold) == pytest.approx(1, abs=1e-9), name
    assert chance(1100)["ndcg_exp"] < chance(1100)["ndcg_lin"]
