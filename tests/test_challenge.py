import math

import numpy as np
import pytest
from plans import copied, planned
from scipy.stats import norm, t

from begat.auditing.fresh_models import KIND, ChallengePlan, Request, models_of
from begat.ensembles.fresh_subsets import fresh_rows, rows_of_groups, rows_of_images
from begat.errors import BegatError
from begat.evaluation.agreement import GroundTruth
from begat.evaluation.challenge import exchanged_differences, lds_rows, verdicts_on
from begat.evaluation.challenge_verdicts import Rule, Sizes, subsets_needed, verdict_of
from begat.evaluation.intervals import permutation_p_value
from begat.evaluation.lds import mean_lds
from begat.evaluation.predictions import forecast_of
from begat.rng.seeds import numpy_generator

QUICK, WORLDS = Rule(error=0.1), 6
UNITS, QUERIES, COMMITTED, FRESH = 10, 16, 10, 10


def simulated(number, noise=0.4, quality=0.8):
    """Scores, subsets and losses of a run with linear effects: committed subsets first."""
    generator = numpy_generator(number, "world")
    effects, others = generator.normal(size=(2, QUERIES, UNITS))
    scores = quality * effects + math.sqrt(1 - quality**2) * others
    removed = np.zeros((COMMITTED + FRESH, UNITS), bool)
    for row in removed:
        row[generator.permutation(UNITS)[: UNITS // 2]] = True
    spread = noise * effects.std() * math.sqrt(UNITS)
    losses = (removed @ effects.T)[:, None]
    losses = losses + spread * generator.normal(size=(len(removed), 2, QUERIES))
    return scores, removed, losses


def challenged(number, scores, removed, losses, rule=QUICK, claim=None):
    """The verdict on scores, their claim taken from the committed subsets."""
    truths = [GroundTruth(removed[s], losses[s]) for s in (slice(10), slice(10, None))]
    forecasts = {"method": forecast_of(scores)}
    generator = numpy_generator(number, "halves")
    value = lds_rows(forecasts, truths[0], generator, 20)["method"]["value"]
    claims = {"method": value if claim is None else claim}
    return verdicts_on(forecasts, claims, *truths, rule, lambda n: numpy_generator(number, n), 40)[
        "method"
    ]


def fitted(removed, losses):
    """Scores that predict the committed losses without an error."""
    centred = removed[:COMMITTED] - removed[:COMMITTED].mean(0)
    targets = losses[:COMMITTED].mean(1)
    return np.linalg.lstsq(centred, targets - targets.mean(0), rcond=None)[0].T


def test_honest_scores_are_accepted():
    verdicts = [challenged(n, *simulated(n)).verdict for n in range(WORLDS)]
    assert verdicts == ["accepted"] * WORLDS


def test_scores_fitted_to_the_committed_losses_are_rejected():
    for n in range(WORLDS):
        _, removed, losses = simulated(n, noise=1.5)
        result = challenged(n, fitted(removed, losses), removed, losses)
        assert result.claimed["value"] > 0.8
        assert result.verdict == "rejected", result


def test_scores_whose_units_exchanged_their_names_are_rejected_or_claim_nothing():
    order = np.roll(np.arange(UNITS), 1)
    for n in range(WORLDS):
        scores, removed, losses = simulated(n)
        renamed = np.concatenate([removed[:COMMITTED, order], removed[COMMITTED:]])
        result = challenged(
            n, scores[:, order], renamed, losses
        )  # the claim is as for honest scores
        assert result.claimed["value"] > 0.4
        assert result.verdict == "rejected", result
        assert challenged(n, scores[:, order], removed, losses).verdict != "accepted"


def test_an_honest_claim_is_rejected_as_often_as_the_rule_says():
    rejected, worlds, error = 0, 100, 0.2
    for n in range(worlds):
        scores, removed, losses = simulated(n, noise=2)
        predicted, measured = forecast_of(scores)(removed)[None], losses.mean(1)
        parts = slice(None, COMMITTED), slice(COMMITTED, None)
        values = [mean_lds(predicted[:, part], measured[part])[0] for part in parts]
        generator = numpy_generator(n, "exchanges")
        exchanged = exchanged_differences(predicted, measured, COMMITTED, generator, 19)
        rejected += permutation_p_value(values[0] - values[1], exchanged[:, 0]) <= error
    deviation = math.sqrt(worlds * error * (1 - error))
    assert abs(rejected - worlds * error) < 3 * deviation


def test_a_claim_that_the_committed_losses_do_not_give_is_rejected():
    result = challenged(0, *simulated(0), claim=0.95)
    assert (result.verdict, result.reason) == ("rejected", "not what its losses give")


def test_exchanges_of_equally_good_subsets_make_no_difference():
    removed = np.random.default_rng(0).random((8, 5)) < 0.5
    predicted = removed @ np.random.default_rng(1).normal(size=(5, 3))
    generator = np.random.default_rng(2)
    differences = exchanged_differences(predicted[None], predicted, 4, generator, 30)
    np.testing.assert_array_equal(differences.round(12), np.zeros((30, 1)))


def row(value, error=0.05):
    return {"value": value, "error": error, "low": value - 2 * error, "high": value + 2 * error}


@pytest.mark.parametrize(
    ("claimed", "fresh", "p_values", "verdict"),
    [
        (0.6, 0.6, (0.5, 0.001), "accepted"),
        (0.6, 0.3, (0.005, 0.001), "rejected"),  # below the claim
        (0.6, 0.05, (0.02, 0.4), "rejected"),  # surely below half of the noise ceiling
        (0.6, 0.35, (0.2, 0.001), "undecided"),  # may be less than half of the claim
        (0.1, 0.4, (0.9, 0.02), "undecided"),  # may be chance
        (-0.1, 0.6, (0.9, 0.001), "undecided"),  # claims nothing
    ],
)
def test_the_verdict_follows_from_both_tests_and_the_limits(claimed, fresh, p_values, verdict):
    result = verdict_of(row(claimed), row(fresh), *p_values, Sizes(10, 12, 0.9), Rule())
    assert result.verdict == verdict


def test_without_a_second_seed_no_score_is_called_worthless():
    sizes = Sizes(10, 12, -math.inf)
    assert verdict_of(row(0.6), row(-0.5), 0.02, 0.9, sizes, Rule()).verdict == "undecided"


def test_a_verdict_says_how_many_subsets_are_needed():
    result = verdict_of(row(0.12, 0.04), row(0.12, 0.04), 0.5, 0.01, Sizes(12, 12, 0.3), Rule())
    assert result.verdict == "undecided"
    assert result.reason == f"{result.needed} subsets needed"
    assert result.needed > 12


def test_so_many_subsets_are_needed_that_the_error_is_small_beside_half_the_claim():
    rule, needed = Rule(), subsets_needed(row(0.5, 0.08), 10, Rule())
    for subsets, enough in ((needed, True), (needed - 1, False)):
        error = 0.08 * math.sqrt(10 / subsets)
        quantiles = t.ppf(1 - rule.error, subsets - 1) + norm.ppf(rule.power)
        assert (quantiles * error <= 0.25) == enough


def test_committed_and_fresh_subsets_must_have_enough_exchanges():
    assert subsets_needed(row(0.9, 1e-6), 4, Rule(error=0.01)) == 5  # 4 + 4: 70, 4 + 5: 126
    assert subsets_needed(row(0.9, 1e-6), 4, Rule(error=0.02)) == 4


def test_no_number_of_subsets_confirms_a_claim_of_nothing():
    assert subsets_needed(row(0.0), 10, Rule()) is None
    assert subsets_needed({"value": 0.5, "error": None}, 3, Rule()) is None


def generators(count):
    return [np.random.default_rng(n) for n in range(count)]


def test_fresh_subsets_differ_from_one_another_and_from_the_committed_ones():
    units, training_row = rows_of_groups(np.eye(5, dtype=bool))
    first = fresh_rows(np.zeros((0, 5), bool), training_row, units, 0.4, generators(6))
    second = fresh_rows(first, training_row, units, 0.4, generators(4))
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 10  # all there are
    assert set(np.concatenate([first, second]).sum(1)) == {2}


def test_more_fresh_subsets_leave_the_first_ones_as_they_were():
    units, training_row = rows_of_images(np.arange(20))
    none = np.zeros((0, 20), bool)
    three = fresh_rows(none, training_row, units, 0.5, generators(3))
    np.testing.assert_array_equal(
        three, fresh_rows(none, training_row, units, 0.5, generators(8))[:3]
    )


def test_more_fresh_subsets_than_there_are_is_one_line():
    units, training_row = rows_of_groups(np.eye(3, dtype=bool))
    with pytest.raises(BegatError, match="use fewer subsets"):
        fresh_rows(np.zeros((0, 3), bool), training_row, units, 0.4, generators(4))


def test_near_duplicates_share_a_fresh_subset_and_an_image_needs_all_its_groups():
    _, of_images = rows_of_images(np.array([0, 0, 2]))
    np.testing.assert_array_equal(of_images(np.array([True, False])), [True, True, False])
    _, of_groups = rows_of_groups(np.array([[True, True, False], [False, True, True]]))
    np.testing.assert_array_equal(of_groups(np.array([True, False])), [True, False, False])


def test_a_challenge_changes_no_key_of_the_run(tmp_path):
    plan = planned(copied(tmp_path))
    models = models_of(Request(7, "groups", 3, "scores"), 2, 0.5, 4)
    fresh = ChallengePlan(tmp_path, plan.params.params_file, models, tmp_path / "challenge")
    tables = {"splits", "report"}  # which list all models
    for job in (job for job in plan.jobs() if job.stage not in tables):
        assert fresh.job(job.stage, job.name).key == job.key
    assert plan.model_keys.items() <= fresh.model_keys.items()
    assert [job.name for job in fresh.fresh_jobs("models")] == [f"{KIND}-0", f"{KIND}-1"]
    assert [len(job.models) for job in fresh.fresh_jobs("measurements")] == [6]


def test_other_scores_or_another_seed_make_other_subsets_and_other_models(tmp_path):
    requests = [
        Request(7, "groups", 2, "a"),
        Request(7, "groups", 2, "b"),
        Request(8, "groups", 2, "a"),
    ]
    draws = [[g.integers(1 << 60) for g in request.generators()] for request in requests]
    assert len({number for draw in draws for number in draw}) == 6
    recipes = [str(m.recipe) for r in requests for m in models_of(r, 1, 0.5, 4)]
    assert len(set(recipes)) == 6
