"""What is said of scores: right where the answer is known."""

import numpy as np
import pytest
from scipy.stats import binom

from begat.evaluation.agreement import (
    Counterfactuals,
    GroundTruth,
    agreement_tables,
    evaluate,
    headline,
)
from begat.evaluation.calibration import calibration
from begat.evaluation.lds import subset_agreement
from begat.evaluation.logo_agreement import logo_agreement
from begat.evaluation.measures import LOSS
from begat.evaluation.predictions import (
    forecast_of,
    group_forecasts,
    image_forecasts,
    mean_of_others,
    query_independent,
)
from begat.evaluation.ranking_metrics import METRICS, RankingMetric
from begat.evaluation.removals import (
    PUBLISHED_SCALE,
    counterfactual_radius,
    false_attribution_rate,
    groups_of_images,
    nearest_images,
)
from begat.evaluation.statistics import lds
from begat.execution.methods import Method
from begat.reporting.charts import charts, logo_tables
from begat.reporting.method_names import MethodNames
from begat.reporting.verdicts import verdict

HOW = dict(seed=0, resamples=50)


def subsets(effect, count=24, seeds=2, noise=0.3, seed=0):
    """Halves of the units, and losses that follow additive effects plus seed noise."""
    generator = np.random.default_rng(seed)
    queries, units = effect.shape
    removed = np.zeros((count, units), bool)
    for row in removed:
        row[generator.permutation(units)[: units // 2]] = True
    truth = 3.0 + removed @ effect.T
    scale = noise * truth.std()
    return removed, truth[:, None] + scale * generator.normal(size=(count, seeds, queries))


def test_good_scores_beat_chance_and_the_rival_and_random_ones_do_not():
    effect = np.random.default_rng(1).normal(size=(20, 12))
    removed, measured = subsets(effect)
    scores = {
        "good": effect,
        "opposite": -effect,
        "pixel_rbf": np.random.default_rng(2).normal(size=effect.shape),
    }
    found, per_query = subset_agreement(
        image_forecasts(scores), removed, measured, name="lds", **HOW
    )
    rows = found["methods"]
    assert rows["good"]["low"] > 0.8
    assert rows["good"]["p"] < 0.02
    assert rows["good"]["minus_pixel"]["low"] > 0
    assert rows["good"]["minus_pixel"]["p"] < 0.02
    assert rows["opposite"]["high"] < -0.8
    assert abs(rows["random"]["value"]) < 3 * rows["random"]["error"] + 0.1
    assert found["ceiling"]["value"] > 0.9
    assert found["ceiling"]["low"] > 0.7
    assert rows["good"]["value"] == pytest.approx(per_query["good"].mean())


def test_one_seed_has_no_ceiling_and_no_forecast_by_other_seeds():
    removed, measured = subsets(np.random.default_rng(1).normal(size=(5, 6)), seeds=1)
    found, _ = subset_agreement({}, removed, measured, name="lds", **HOW)
    assert "ceiling" not in found
    assert set(found["methods"]) == {"random"}


@pytest.mark.parametrize(("queries", "halves"), [(1, 12), (12, 3), (2, 1)])
def test_few_queries_or_halves_have_values_but_no_interval_and_no_verdict(queries, halves):
    effect = np.random.default_rng(1).normal(size=(queries, 12))
    removed, measured = subsets(effect, count=halves)
    forecasts = image_forecasts({"good": effect, "pixel_rbf": -effect})
    found, _ = subset_agreement(forecasts, removed, measured, name="lds", **HOW)
    row = found["methods"]["good"]
    assert row["low"] is None
    assert row["minus_pixel"]["high"] is None
    assert verdict({"method": "good", **row}) == ""
    method = Method("good", "", LOSS, headline=True)
    (chart,) = charts({"lds": found}, MethodNames({"good": method}))
    assert chart["conclusion"].startswith("No conclusion")


def losses_without_effect(generator, halves, seeds, queries):
    """Losses that no removal changes; a model that came out badly is bad for all queries."""
    common = generator.normal(size=(halves, seeds, 1))
    return common + 0.3 * generator.normal(size=(halves, seeds, queries))


def test_a_forecast_that_is_the_same_for_every_query_knows_nothing_of_its_judges():
    generator = np.random.default_rng(0)
    values = []
    for _ in range(40):
        measured = losses_without_effect(generator, 12, 2, 20)
        blind = query_independent(measured)
        values.append(np.mean([lds(blind[s], measured[:, [s]]).mean() for s in (0, 1)]))
    assert abs(np.mean(values)) < 4 * np.std(values) / len(values) ** 0.5
    assert np.std(values) > 0.1  # as one truth for all queries makes it, not 20 of them


def test_methods_are_compared_with_that_forecast_on_the_same_truth():
    generator = np.random.default_rng(0)
    effect = generator.normal(size=(1, 12)) + 0.1 * generator.normal(size=(20, 12))
    removed, measured = subsets(effect, noise=1.5)
    found, per_query = subset_agreement(
        image_forecasts({"good": effect}), removed, measured, name="lds", **HOW
    )
    single = np.mean([lds(removed @ effect.T, measured[:, [s]]).mean() for s in (0, 1)])
    rows = found["methods"]
    other = rows["query_independent"]["value"]
    assert rows["good"]["minus_blind"]["value"] == pytest.approx(single - other)
    assert rows["good"]["value"] > single  # the mean of two seeds is less noisy
    assert other == pytest.approx(per_query["query_independent"].mean())
    assert "p" not in rows["query_independent"]


def effects_of_groups(generator, queries, groups):
    """Effects that queries have in common."""
    return generator.normal(size=(1, groups)) + 0.3 * generator.normal(size=(queries, groups))


def claims_allowed(trials, level=0.05):
    """How many false claims a sound test makes at most, but once in a hundred times."""
    return binom.ppf(0.99, trials, level)


@pytest.mark.parametrize(("groups", "halves"), [(10, 10), (10, 30), (5, 10)])
def test_scores_that_know_nothing_are_seldom_called_better_than_chance(groups, halves):
    generator = np.random.default_rng(groups + halves)
    trials, queries, said, small = 40, 8, [], 0
    for trial in range(trials):
        removed, measured = subsets(
            effects_of_groups(generator, queries, groups), halves, seeds=1, seed=trial
        )
        scores = {
            "a": effects_of_groups(generator, queries, groups),
            "pixel_rbf": effects_of_groups(generator, queries, groups),
        }
        found, _ = subset_agreement(
            image_forecasts(scores), removed, measured, name="group_lds", seed=trial, resamples=19
        )
        row = found["methods"]["a"]
        said.append(verdict({"method": "a", **row}))
        small += row["p"] <= 0.05
    assert small <= claims_allowed(trials)
    assert sum(words.startswith("better") for words in said) <= claims_allowed(trials)
    assert sum("no clear difference" not in words for words in said) <= claims_allowed(trials)


def test_nor_are_they_where_each_group_was_left_out():
    generator = np.random.default_rng(4)
    trials, said, p_values = 40, [], []
    for trial in range(trials):
        names = ("logo_independent", "a", "pixel_rbf")
        scores = {name: effects_of_groups(generator, 12, 10) for name in names}
        found, _ = logo_agreement(scores, "logo_independent", seed=trial, resamples=19)
        row = found["spearman"]["a"]
        said.append(verdict({"method": "a", **row}))
        p_values.append(row["p"])
    assert sum(p <= 0.05 for p in p_values) <= claims_allowed(trials)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.19)
    assert sum(words.startswith("better") for words in said) <= claims_allowed(trials)
    assert sum("no clear difference" not in words for words in said) <= claims_allowed(trials)


def test_intervals_over_groups_are_as_wide_as_other_groups_would_differ():
    generator = np.random.default_rng(5)
    found = []
    for trial in range(25):
        gold, noise = (effects_of_groups(generator, 12, 10) for _ in range(2))
        scores = {"logo_retrained": gold, "a": 0.6 * gold + 0.8 * noise}
        rows, _ = logo_agreement(scores, "logo_retrained", seed=trial, resamples=20)
        found.append(rows)
    for metric in ("top1", "mrr", "wpra", "spearman"):
        values = [rows[metric]["a"]["value"] for rows in found]
        errors = [rows[metric]["a"]["error"] for rows in found]
        assert 0.7 < np.mean(errors) / np.std(values) < 2, metric
    for metric in ("overlap_at_3", "ndcg_exp", "ndcg_lin", "rbo"):
        assert found[0][metric]["a"]["error"] is None


def test_perfect_scores_have_an_lds_of_one_and_every_verdict():
    effect = np.random.default_rng(1).normal(size=(8, 10))
    removed, measured = subsets(effect, noise=0)
    scores = {"a": effect, "pixel_rbf": np.random.default_rng(2).normal(size=effect.shape)}
    found, _ = subset_agreement(image_forecasts(scores), removed, measured, name="group_lds", **HOW)
    row = found["methods"]["a"]
    assert row["value"] == pytest.approx(1)
    assert found["ceiling"]["value"] == pytest.approx(1, abs=0.01)
    assert verdict({"method": "a", **row}) == "better than chance, above the pixel kernel"


def unequal_groups():
    """Groups of 2 to 40 images, and of each image the group."""
    sizes = np.array([2, 3, 5, 8, 12, 17, 23, 28, 34, 40])
    of_image = np.repeat(np.arange(10), sizes)
    return sizes, of_image == np.arange(10)[:, None]


def test_where_groups_are_of_unequal_size_their_size_is_a_rival():
    generator = np.random.default_rng(0)
    sizes, member_of = unequal_groups()
    effect = sizes * (1 + 0.05 * generator.normal(size=(8, 10)))
    removed, measured = subsets(effect)
    noisy = effect + 15 * generator.normal(size=effect.shape)
    groups = {"method": noisy, "logo_retrained": effect}
    truths = {"group_lds": GroundTruth(removed, measured)}
    images = np.zeros((sizes.sum(), 1, 2, 2))
    summary, tables = evaluate({}, groups, member_of, truths, {}, images, **HOW)
    for rows in (summary["group_lds"]["methods"], summary["logo"]["logo_retrained"]["spearman"]):
        assert rows["group_size"]["value"] > 0.8
        assert rows["method"]["minus_size"]["value"] < 0
    assert "group_size" in tables["group_lds"]
    names = MethodNames({"method": Method("method", "", LOSS, headline=True)})
    for chart in charts(summary, names):
        if chart["name"] != "logo_top1":
            assert "The number of images in a group alone is" in chart["conclusion"]


def test_groups_of_several_kinds_are_summed_over_the_images_that_are_lacked():
    generator = np.random.default_rng(0)
    images, queries = 120, 6
    kinds = [generator.integers(0, 4, images), generator.integers(0, 4, images)]
    member_of = np.concatenate([kind == np.arange(4)[:, None] for kind in kinds])
    effect = generator.random((queries, images)) * 10 ** generator.normal(size=images)
    removed = np.zeros((12, 8), bool)
    for row in removed:
        row[generator.permutation(8)[:3]] = True
    gone = removed.astype(int) @ member_of > 0
    measured = (gone @ effect.T)[:, None]
    summed = effect @ member_of.T
    scores = {"both": generator.normal(size=summed.shape), "both_summed": summed, "one": summed}
    forecasts = group_forecasts(scores, {"both": effect, "one": effect}, member_of)
    reached = {m: lds(forecast(removed), measured).mean() for m, forecast in forecasts.items()}
    assert reached["one"] == reached["both_summed"] == pytest.approx(1)
    assert abs(reached["both"]) < 0.9
    assert lds(removed @ summed.T, measured).mean() < 0.95  # as the sums of groups would reach
    np.testing.assert_array_equal(forecasts["group_size"](removed)[:, 0], gone.sum(1))


@pytest.mark.numerics
def test_disjoint_groups_are_predicted_alike_by_groups_and_by_images():
    generator = np.random.default_rng(0)
    _, member_of = unequal_groups()
    effect = generator.normal(size=(3, member_of.shape[1]))
    removed = generator.random((5, 10)) < 0.5
    np.testing.assert_allclose(
        forecast_of(effect @ member_of.T)(removed), forecast_of(effect, member_of)(removed)
    )


@pytest.mark.numerics
def test_gold_agrees_with_itself_and_random_scores_are_right_one_time_in_k():
    generator = np.random.default_rng(0)
    gold = generator.normal(size=(200, 8))
    noise = generator.normal(size=gold.shape)
    scores = {"gold": gold, "noise": noise, "logo_paired": gold, "logo_independent": noise}
    found, per_query = logo_agreement(scores, "logo_paired", **HOW)
    assert found["mrr"]["another_training"] == found["mrr"]["noise"]
    assert not [method for method in found["mrr"] if method.startswith("logo")]
    assert found["spearman"]["gold"]["value"] == pytest.approx(1)
    assert found["top1"]["gold"]["value"] == 1
    assert found["top1"]["noise"]["value"] == pytest.approx(1 / 8, abs=0.08)
    np.testing.assert_allclose(per_query["gold"], 1)


def test_each_training_in_nats_is_a_truth_of_its_own_and_the_loss_leads():
    generator = np.random.default_rng(0)
    groups = ("logo_independent", "logo_paired", "logo_elbo_independent", "logo_elbo_paired")
    scores = {name: generator.normal(size=(40, 8)) for name in groups}
    scores |= {"guda_loss": scores["logo_paired"], "guda_elbo": scores["logo_elbo_paired"]}
    summary, tables = evaluate(
        {}, scores, np.eye(8, dtype=bool), {}, {}, np.zeros((8, 1, 8, 8)), **HOW
    )
    found = summary["logo"]
    assert found["reference"] == "logo_independent"
    for gold, right, wrong in (
        ("logo_paired", "guda_loss", "guda_elbo"),
        ("logo_elbo_paired", "guda_elbo", "guda_loss"),
    ):
        assert found[gold]["spearman"][right]["value"] == pytest.approx(1)
        assert abs(found[gold]["spearman"][wrong]["value"]) < 0.3
    another = found["logo_elbo_independent"]["spearman"]
    assert another["another_training"]["value"] == another["guda_elbo"]["value"]
    assert tables["logo_spearman"]["guda_loss"].mean() < 0.3
    assert [t["title"] for t in logo_tables(found, MethodNames({}))][2].endswith(
        "in nats of the evidence lower bound"
    )


def test_a_new_metric_is_one_entry_and_reaches_the_report(monkeypatch):
    def constant(score, reference):
        return np.full(len(score), 0.25)

    monkeypatch.setitem(METRICS, "toy", RankingMetric("toy metric", constant, half_sampled=True))
    generator = np.random.default_rng(0)
    scores = {"logo_paired": generator.normal(size=(6, 5)), "a": generator.normal(size=(6, 5))}
    images = np.zeros((5, 1, 2, 2))
    summary, _ = evaluate({}, scores, np.eye(5, dtype=bool), {}, {}, images, **HOW)
    assert summary["logo"]["chance"]["toy"] == 0.25
    assert summary["logo"]["logo_paired"]["toy"]["a"]["low"] == 0.25
    (table,) = logo_tables(summary["logo"], MethodNames({}))
    assert table["metrics"][-1] == "toy metric"
    assert table["chance"][-1] == table["rows"][0]["cells"][-1]["value"] == 0.25


@pytest.mark.numerics
def test_the_mean_of_the_others_leaves_oneself_out():
    np.testing.assert_allclose(
        mean_of_others(np.array([[1.0, 2.0, 6.0]]), axis=1), [[4.0, 3.5, 1.5]]
    )


def test_no_row_of_truth_is_judged_as_a_method_nor_judges_unasked():
    generator = np.random.default_rng(0)
    kinds = ("retrained", "paired", "independent", "elbo_paired", "elbo_independent")
    scores = {f"logo_{kind}": generator.normal(size=(6, 5)) for kind in kinds}
    scores["method"] = generator.normal(size=(6, 5))
    images = np.zeros((5, 1, 2, 2))
    summary, _ = evaluate({}, scores, np.eye(5, dtype=bool), {}, {}, images, **HOW)
    yardsticks = {"group_size", "another_training", "query_independent"}
    assert summary["logo"]["reference"] == "logo_independent"
    assert set(summary["logo"]["logo_independent"]["spearman"]) == {"method"} | yardsticks
    assert set(summary["logo"]["logo_retrained"]["spearman"]) == {"method", "group_size"}
    elbo, _ = logo_agreement(scores, "logo_elbo_paired", **HOW)
    assert elbo["top1"]["another_training"]["value"] == pytest.approx(
        (scores["logo_elbo_independent"].argmax(1) == scores["logo_elbo_paired"].argmax(1)).mean()
    )


def test_what_is_the_same_for_every_group_left_out_comes_from_other_seeds():
    generator = np.random.default_rng(0)
    paired, independent = generator.normal(size=(2, 6, 5))
    scores = {"logo_independent": independent, "logo_paired": paired}
    _, ranks = logo_agreement(scores, "logo_independent", **HOW)
    expected, _ = logo_agreement(
        {**scores, "by_hand": mean_of_others(paired, axis=0)}, "logo_independent", **HOW
    )
    values = expected["spearman"]
    assert values["query_independent"]["value"] == values["by_hand"]["value"]
    assert ranks["query_independent"].mean() == pytest.approx(values["by_hand"]["value"])


def rate(blamed, without, removed):
    """The false attribution rate where every image is in one unit."""
    return false_attribution_rate(blamed[:, None], without[:, :, None], removed, **HOW)


def test_scores_44_times_too_large_are_called_so():
    generator = np.random.default_rng(0)
    truth = effects_of_groups(generator, 20, 12)
    noise = generator.normal(size=truth.shape)
    scores = {
        "exact": truth,
        "large": 44 * (truth + 0.05 * truth.std() * noise),
        "noisy": 44 * (truth + 2 * truth.std() * noise),
        "blind": noise,
        "constant": np.ones_like(truth),
    }
    found = calibration(scores, truth, name="truth", **HOW)
    assert "constant" not in found
    assert found["exact"]["ratio"] == pytest.approx(1)
    assert found["exact"]["slope"]["value"] == pytest.approx(1)
    assert found["large"]["ratio"] == pytest.approx(44, rel=0.03)
    assert found["large"]["slope"]["value"] == pytest.approx(1 / 44, rel=0.03)
    assert found["large"]["slope"]["low"] < 1 / 44 < found["large"]["slope"]["high"]
    assert found["noisy"]["ratio"] == pytest.approx(44 * 5**0.5, rel=0.2)
    assert found["noisy"]["slope"]["value"] == pytest.approx(1 / 44 / 5, rel=0.4)
    assert found["noisy"]["correlation"]["value"] == pytest.approx(5**-0.5, abs=0.15)
    blind = found["blind"]["correlation"]
    assert blind["low"] < 0 < blind["high"]
    assert not calibration(scores, np.zeros_like(truth), name="truth", **HOW)


def test_a_slope_is_that_of_least_squares_through_zero():
    generator = np.random.default_rng(0)
    score, truth = 3 + generator.normal(size=(2, 6, 5))
    found = calibration({"m": score}, truth, name="truth", **HOW)["m"]
    (expected,), *_ = np.linalg.lstsq(score.reshape(-1, 1), truth.ravel(), rcond=None)
    assert found["slope"]["value"] == pytest.approx(expected)
    assert found["correlation"]["value"] == pytest.approx(
        np.corrcoef(score.ravel(), truth.ravel())[0, 1]
    )


def test_sizes_are_held_against_the_training_that_judges_and_another_training_bounds_them():
    generator = np.random.default_rng(0)
    names = [f"logo_{part}{which}" for part in ("", "elbo_") for which in ("independent", "paired")]
    rows = {name: generator.normal(size=(8, 6)) for name in ("m", *names)}
    member_of = np.eye(6, dtype=bool)
    summary, _ = evaluate({}, rows, member_of, {}, {}, np.zeros((6, 1, 2, 2)), **HOW)
    assert list(summary["calibration"]) == ["logo_independent", "logo_elbo_independent"]
    for gold, found in summary["calibration"].items():
        assert set(found) == {"m", "another_training", "query_independent"}
        twin = rows[gold.replace("independent", "paired")]
        ratio = twin.std() / rows[gold].std()
        assert found["another_training"]["ratio"] == pytest.approx(ratio)


def test_an_attributor_blind_to_its_input_has_a_rate_of_one():
    removed = np.tile(np.arange(5), (40, 1))
    blamed = np.arange(40) % 5
    blind = np.repeat(blamed[:, None], 5, 1)
    found = rate(blamed, blind, removed)
    assert found["value"] == 1
    assert found["low"] == found["high"] == 1


def test_one_that_never_names_an_absent_unit_has_a_rate_of_zero():
    removed = np.tile(np.arange(5), (40, 1))
    blamed = np.arange(40) % 5
    without = np.where(removed == blamed[:, None], (blamed[:, None] + 1) % 5, blamed[:, None])
    found = rate(blamed, without, removed)
    assert found["value"] == 0
    assert found["without_another"] == 1


def test_queries_whose_nearest_image_belongs_to_no_unit_are_left_out():
    removed = np.tile(np.arange(3), (4, 1))
    blamed = np.array([0, -1, 1, 2])
    without = np.where(removed == blamed[:, None], -1, blamed[:, None])
    assert rate(blamed, without, removed)["value"] == 0


def test_a_rate_without_a_denominator_is_undefined_not_zero():
    removed = np.tile(np.arange(3), (5, 1))
    blamed = np.array([0, 1, 2, 0, 1])
    always = np.where(removed == blamed[:, None], blamed[:, None], (blamed[:, None] + 1) % 3)
    found = rate(blamed, always, removed)
    assert found["value"] is None
    assert found["without_it"] == 1
    none = rate(np.full(5, -1), always, removed)
    assert none["value"] is none["low"] is none["without_it"] is None


def test_the_rates_interval_is_that_of_a_ratio():
    generator = np.random.default_rng(0)
    removed = np.tile(np.arange(2), (60, 1))
    blamed = np.zeros(60, int)

    def draw():
        without = np.where(generator.random((60, 2)) < [0.3, 0.6], 0, 1)
        return rate(blamed, without, removed)

    found = [draw() for _ in range(60)]
    values = [one["value"] for one in found]
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)
    assert np.mean([one["error"] for one in found]) == pytest.approx(np.std(values), rel=0.3)


def test_an_image_of_several_groups_blames_each_and_is_compared_with_none_of_them():
    member_of = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], bool)
    units = groups_of_images(member_of)
    assert units.tolist() == [[0, 2], [1, 2], [0, 3]]
    removed = np.tile(np.arange(4), (4, 1))
    # image 0 of groups 0 and 2 is blamed; without 0 group 2 is blamed through image 1, without 2
    # group 0 through image 2; without 1 or 3 image 0 again
    without = np.tile([1, 0, 2, 0], (4, 1))
    found = false_attribution_rate(units[np.zeros(4, int)], units[without], removed, **HOW)
    assert found["value"] == 0
    without[:, 2] = 1  # an image of group 2, which is not its first
    found = false_attribution_rate(units[np.zeros(4, int)], units[without], removed, **HOW)
    assert found["value"] == 0.5
    assert found["without_another"] == 1


def test_slots_of_units_chosen_as_helpful_are_no_yardstick():
    generator = np.random.default_rng(0)
    queries, images = 6, 10
    training = 5 * generator.normal(size=(images, 1, 2, 2))
    unit = np.tile([7, 0, 3], (queries, 1)).astype(np.int32)  # helpful 1, nearest, random
    pixels = np.repeat(training[None, [9, 0, 0]], queries, 0)  # only the helpful one moves it
    drawn = Counterfactuals(
        factual=np.repeat(training[:1], queries, 0),
        pixels=pixels,
        unit=unit,
        distance=np.ones(unit.shape),
        units=np.arange(images)[:, None],
        helpful=1,
    )
    summary, _ = evaluate(
        {}, {}, np.zeros((0, images), bool), {}, {"images_redrawn": drawn}, training, **HOW
    )
    far = summary["images_redrawn"]["false_attribution"]["pixel_nearest"]
    assert far["without_another"] == 1
    assert far["value"] == 1


def test_the_radius_is_the_mean_farthest_distance_and_knows_its_null():
    distance = np.array([[0.1, 0.4], [0.2, 0.0]])
    null = np.array([[0.1, 0.1], [0.3, 0.2]])
    found = counterfactual_radius(distance, null, **HOW)
    assert found["radius"]["value"] == pytest.approx(0.3)
    assert found["null"]["value"] == pytest.approx(0.2)
    assert found["excess"]["value"] == pytest.approx(0.1)
    assert found["published"]["value"] == pytest.approx(0.3 * PUBLISHED_SCALE)
    assert "null" not in counterfactual_radius(distance, distance[:, :0], **HOW)


def test_the_nearest_image_is_found_for_every_slot():
    training = np.random.default_rng(0).normal(size=(6, 1, 2, 2))
    found = nearest_images(training[None, ::-1] + 1e-3, training)
    assert found.tolist() == [[5, 4, 3, 2, 1, 0]]


def test_everything_together_and_the_headline():
    generator = np.random.default_rng(0)
    effect = generator.normal(size=(6, 10))
    groups = generator.normal(size=(6, 4))
    truths = {"lds": GroundTruth(*subsets(effect)), "group_lds": GroundTruth(*subsets(groups))}
    training = generator.normal(size=(10, 1, 2, 2))
    unit = np.tile(np.append(np.arange(4), [-1] * 4), (6, 1)).astype(np.int32)
    redrawn = Counterfactuals(
        training[:6],
        generator.normal(size=(6, 8, 1, 2, 2)),
        unit,
        generator.random((6, 8)),
        np.arange(10)[:, None] % 4,
        helpful=0,
    )
    summary, tables = evaluate(
        {"ensemble_matched": effect, "pixel_rbf": effect},
        {"ensemble_matched": groups, "pixel_rbf": groups, "logo_retrained": groups},
        np.arange(10) % 4 == np.arange(4)[:, None],
        truths,
        {"groups_redrawn": redrawn},
        training,
        **HOW,
    )
    assert set(tables) == {"lds", "group_lds", "logo_spearman"}
    brief = headline(summary)
    assert brief["lds"]["ensemble_matched"] > 0.8
    assert set(brief["group_lds"]) == {*summary["group_lds"]["methods"], "ceiling"}
    assert {"pixel_rbf", "group_size"} <= set(brief["group_lds"])
    assert brief["logo_top1"]["ensemble_matched"] == brief["logo_top1"]["pixel_rbf"] == 1.0
    assert set(brief["groups_redrawn"]) == {"radius", "false_attribution"}
    plotted = agreement_tables(summary)
    assert set(plotted) == {"lds", "group_lds", "logo"}
    head, *lines = plotted["group_lds"].splitlines()
    assert head == "method,value,low,high"
    assert {line.split(",")[0] for line in lines} == set(summary["group_lds"]["methods"])
    for method, value, low, high in (line.split(",") for line in lines):
        row = summary["group_lds"]["methods"][method]
        found = [float(number) for number in (value, low, high)]
        assert found == [round(row[key], 4) for key in ("value", "low", "high")]


def test_what_has_no_value_is_no_headline():
    undefined = {"value": None, "error": None, "low": None, "high": None}
    summary = {
        "lds": {"methods": {"a": {"value": 0.5, "low": None}}, "ceiling": {"value": 0.7}},
        "images_redrawn": {
            "radius": {"value": 0.1},
            "false_attribution": {"pixel_nearest": undefined},
        },
    }
    pointwise = undefined | {"value": 0.5}
    assert agreement_tables({"lds": {"methods": {"a": undefined, "b": pointwise}}}) == {
        "lds": "method,value,low,high\nb,0.5000,,\n"
    }
    assert headline(summary) == {
        "lds": {"a": 0.5, "ceiling": 0.7},
        "images_redrawn": {"radius": 0.1},
    }
