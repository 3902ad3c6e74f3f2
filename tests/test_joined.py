"""Joined scores: closed forms of their weights, and that no ground truth leaks into what is tested.

What is tested are rank correlations on queries and subsets that had no part in any choice.
"""

import numpy as np
import pytest
from plans import copied, planned
from report_pages import NAMES, NO_INTERVAL, interval
from small import ROOT
from test_metrics import subsets

from begat.errors import BegatError
from begat.evaluation.agreement import GroundTruth
from begat.evaluation.joined import (
    error_weighted_sum,
    error_weights,
    stacking_weights,
    unit_variance,
    unit_variance_sum,
)
from begat.evaluation.joined_agreement import compare_joined, cross_fitted, joined_agreement
from begat.evaluation.lds import mean_lds
from begat.evaluation.predictions import forecast_of, image_forecasts
from begat.evaluation.statistics import correlation
from begat.planning.plan import Plan
from begat.reporting.verdicts import NOT_BETTER, joined_comparison

pytestmark = pytest.mark.numerics
HOW = dict(seed=0, resamples=20)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_scores_at_unit_variance_are_divided_by_their_deviation_over_the_units():
    score = np.array([[1.0, 3.0, 5.0], [0.1, 0.1, 0.1]], np.float32)
    expected = np.array([[1, 3, 5], [0, 0, 0]]) / np.sqrt(8 / 3)
    np.testing.assert_allclose(unit_variance(score), expected)


@pytest.mark.parametrize("copies", [2, 3])
def test_a_sum_of_noisy_copies_correlates_with_what_they_have_in_common_by_the_formula(copies):
    signal, noise = normal(1, 100_000), 1.5 * normal(copies, 1, 100_000, seed=1)
    scores = 10.0 ** np.arange(copies)[:, None, None] * (signal + noise)  # in any units
    total, _ = unit_variance_sum(scores, np.zeros(scores.shape))
    expected = 1 / np.sqrt(1 + 1.5**2 / copies)
    np.testing.assert_allclose(correlation(total, signal), expected, atol=0.01)
    assert correlation(scores[0], signal)[0] < expected - 0.1


def test_errors_of_sums_are_those_of_independent_parts():
    scores, errors = normal(2, 3, 5), 0.1 + np.abs(normal(2, 3, 5, seed=1))
    deviation = scores.std(-1, keepdims=True)
    _, error = unit_variance_sum(scores, errors)
    np.testing.assert_allclose(error**2, ((errors / deviation) ** 2).sum(0))
    weights = error_weights(scores, errors)[..., None]
    weighted, error = error_weighted_sum(scores, errors)
    np.testing.assert_allclose(weighted, (weights * scores / deviation).sum(0))
    np.testing.assert_allclose(error**2, ((weights * errors / deviation) ** 2).sum(0))


def test_weights_by_errors_are_inverse_variances_of_scores_at_unit_variance():
    scores = np.stack([normal(2, 50), 100 * normal(2, 50, seed=1)])
    errors = scores.std(-1, keepdims=True) * np.array([0.1, 0.3])[:, None, None] * np.ones(50)
    expected = np.array([1 / 0.01, 1 / 0.09]) / (1 / 0.01 + 1 / 0.09)
    np.testing.assert_allclose(error_weights(scores, errors), expected[:, None] * np.ones(2))


def test_a_part_without_an_error_or_with_constant_scores_has_no_weight():
    scores, errors = np.stack([normal(1, 5), normal(1, 5, seed=1), np.ones((1, 5))]), np.ones(5)
    errors = np.stack([errors[None], 0 * errors[None], errors[None]])
    assert error_weights(scores, errors)[:, 0].tolist() == [1, 0, 0]
    assert not error_weights(scores, 0 * errors).any()


def orthonormal(parts, subsets, queries):
    """Predictions of the parts that are centred, uncorrelated and equally large for every query."""
    blocks = normal(queries, subsets, parts)
    blocks = np.linalg.qr(blocks - blocks.mean(1, keepdims=True))[0]
    return blocks.transpose(2, 1, 0)


def test_stacking_recovers_the_weights_that_losses_were_made_with():
    predicted, weights = orthonormal(3, 8, 5), np.array([0.5, 0.3, 0.2])
    units = np.array([1.0, 10.0, 100.0, 0.1, 3.0])  # queries differ in level and size
    measured = 7.0 + units * np.tensordot(weights, predicted, 1)
    np.testing.assert_allclose(stacking_weights(predicted, measured), weights)


def test_stacking_gives_a_useless_part_hardly_any_weight_and_an_opposite_one_none():
    predicted = normal(3, 200, 20)
    measured = predicted[0] - predicted[2] + normal(200, 20, seed=1)
    useful, useless, opposite = stacking_weights(predicted, measured)
    assert useful > 0.95
    assert useless < 0.05
    assert opposite == 0
    assert not stacking_weights(predicted[2:], measured).any()


def stacked_value(seed, parts=8, count=10, queries=12):
    """Agreement of stacked noise with losses that are noise too, the same for all queries.

    A model that came out badly is bad for every query, so the losses of new queries repeat those
    that weights were fitted to.
    """
    predicted = np.repeat(normal(parts, count, 1, seed=seed), queries, 2)
    level = normal(count, 1, seed=seed + 1000)
    measured = level + 0.1 * normal(count, queries, seed=seed + 2000)
    values = cross_fitted(predicted, measured, parts, np.random.default_rng(seed))
    weights = stacking_weights(predicted[:, :, ::2], measured[:, ::2])  # new queries alone
    test = np.tensordot(weights, predicted[:, :, 1::2], 1)
    return values[parts], values[parts + 1], mean_lds(test[None], measured[:, 1::2])[0]


def test_stacked_noise_has_no_advantage_where_it_is_tested():
    best, stacked, leaking = np.array([stacked_value(seed) for seed in range(60)]).T
    for values in (best, stacked):
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    assert leaking.mean() > 0.4  # so a leak through the subsets would be noticed


def comparison_of(parts, removed, measured, **ready):
    forecasts = image_forecasts({m: unit_variance(score) for m, score in parts.items()})
    return joined_agreement(forecasts, image_forecasts(ready), removed, measured, name="lds", **HOW)


def test_two_halves_of_the_truth_are_better_together_than_the_best_of_them():
    first, second = normal(24, 12, seed=1), normal(24, 12, seed=2)
    removed, measured = subsets(first + second)
    parts = {"first": first, "second": second, "noise": normal(24, 12, seed=3)}
    table = comparison_of(parts, removed, measured, joined=first + second)
    assert table["verdicts"] == {"joined": "better", "joined_stacked": "better"}
    for method in ("joined", "joined_stacked"):
        assert table["methods"][method]["minus_best"]["low"] > 0
        assert table["methods"][method]["minus_highest"]["low"] > 0
    assert table["highest"] in ("first", "second")
    assert table["weights"]["first"] == pytest.approx(0.5, abs=0.1)
    assert table["weights"]["noise"] < 0.1
    assert table["chosen"]["first"] + table["chosen"]["second"] == 1


def test_a_sum_with_a_part_that_misleads_is_not_better_and_stacking_leaves_that_part_out():
    effect = normal(24, 12, seed=1)
    removed, measured = subsets(effect)
    parts = {"good": effect, "opposite": -effect}
    table = comparison_of(parts, removed, measured, joined=1e-3 * normal(24, 12, seed=2))
    assert table["verdicts"] == {"joined": "not better", "joined_stacked": "undecided"}
    assert table["weights"] == {"good": 1, "opposite": 0}
    assert table["methods"]["joined_stacked"]["minus_best"]["value"] == 0


def test_copies_of_one_method_are_undecided():
    effect = normal(16, 12, seed=1)
    removed, measured = subsets(effect)
    table = comparison_of({"a": effect, "b": 5 * effect}, removed, measured)
    assert table["verdicts"] == {"joined_stacked": "undecided"}
    difference = table["methods"]["joined_stacked"]["minus_best"]
    assert abs(difference["value"]) < 1e-9


def test_with_too_few_subsets_there_is_no_interval_and_with_fewer_nothing():
    effect = normal(16, 12, seed=1)
    scores = {"a": effect, "b": normal(16, 12, seed=2), "joined": effect}
    parts = {"images": ["a", "b"], "groups": []}
    for count in (3, 7, 8):
        truth = GroundTruth(*subsets(effect, count))
        summary = compare_joined(parts, scores, {}, np.eye(12, dtype=bool), {"lds": truth}, **HOW)
        assert bool(summary) == (count > 3)
        for row in summary["lds"]["methods"].values() if summary else ():
            assert (row["low"] is None) == (count < 8)
            assert "joined" in summary["lds"]["verdicts"]


def test_scores_of_groups_are_tested_on_subsets_and_without_each_group():
    effect = normal(16, 10, seed=1)
    removed, measured = subsets(effect)
    noisy = [effect + normal(16, 10, seed=seed) for seed in (2, 3)]
    truth = effect + 0.1 * normal(16, 10, seed=4)
    scores = {"a": noisy[0], "b": noisy[1], "joined": sum(noisy), "logo_retrained": truth}
    member_of = np.repeat(np.eye(10, dtype=bool), 3, 1)
    parts, truths = {"images": [], "groups": ["a", "b"]}, GroundTruth(removed, measured)
    summary = compare_joined(parts, {}, scores, member_of, {"group_lds": truths}, **HOW)
    assert list(summary) == ["group_lds", "logo"]
    for table in summary.values():
        assert list(table["methods"]) == ["a", "b", "joined", "best_part", "joined_stacked"]
        assert table["methods"]["joined"]["value"] > table["methods"]["best_part"]["value"]
    alone = {"a": forecast_of(noisy[0]), "b": forecast_of(noisy[1])}
    identity, losses = np.eye(10, dtype=bool), truth.T[:, None]
    expected = joined_agreement(alone, {}, identity, losses, name="logo", **HOW)
    for part in "ab":
        value = summary["logo"]["methods"][part]["value"]
        assert value == pytest.approx(expected["methods"][part]["value"])


def test_joined_scores_read_neither_the_ground_truth_nor_themselves():
    plan = Plan(ROOT, "params/tiny.yaml")
    reads = {stage for stage, _ in plan.job("scores_joined", "all").inputs}
    scores = {job.stage for job in plan.jobs() if job.stage.startswith("scores_")}
    assert reads == {"images", *scores} - {"scores_logo", "scores_joined"}
    assert ("scores_joined", "all") in plan.job("aggregated", "all").inputs


@pytest.mark.parametrize(
    "methods",
    [["ekfac"], ["ekfac", "ekfac"], ["ekfac", "logo_paired"], ["ekfac", "joined"], ["ekfac", "x"]],
)
def test_only_different_methods_that_are_no_ground_truth_can_be_joined(tmp_path, methods):
    message = "params/tiny.yaml: scores_joined.methods: expected at least two different names"
    with pytest.raises(BegatError, match=message):
        planned(copied(tmp_path), scores_joined__methods=methods)


def test_the_report_says_whether_a_joined_score_is_better_than_its_best_part():
    difference = interval(-0.02, 0.05, p=0.5)
    table = {
        "methods": {
            "best_part": interval(0.4),
            "ekfac": interval(0.41),
            "joined": interval(0.38, minus_best=difference),
        },
        "highest": "ekfac",
        "verdicts": {"joined": "undecided"},
    }
    text = joined_comparison(table, NAMES)
    assert "Best method: 0.40; joined 0.38, difference -0.02 [-0.07, +0.03], no clear diff" in text
    assert NOT_BETTER in text
    assert text.endswith("In hindsight the best method is influence, EK-FAC, at 0.41.")
    table["verdicts"]["joined"] = "better"
    assert NOT_BETTER not in joined_comparison(table, NAMES)
    table["methods"]["joined"]["minus_best"] = NO_INTERVAL
    assert "joined 0.38, difference +0.50." in joined_comparison(table, NAMES)
