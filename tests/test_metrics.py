"""What is said of scores: right where the answer is known."""

import numpy as np
import pytest

from begat.stages.metrics import (
    PUBLISHED_SCALE,
    Redrawn,
    Truth,
    evaluate,
    false_attribution,
    gold_agreement,
    headline,
    mean_of_others,
    nearest_unit,
    radius,
    subset_agreement,
)

HOW = dict(seed=0, resamples=60)


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
    found, per_query = subset_agreement(scores, removed, measured, name="lds", **HOW)
    rows = found["methods"]
    assert rows["good"]["low"] > 0.8
    assert rows["good"]["p"] < 0.02
    assert rows["good"]["minus_pixel"]["low"] > 0
    assert rows["opposite"]["high"] < -0.8
    assert abs(rows["random"]["value"]) < 3 * rows["random"]["error"] + 0.1
    assert found["ceiling"] > 0.9
    assert rows["good"]["value"] == pytest.approx(per_query["good"].mean())


def test_one_seed_has_no_ceiling():
    removed, measured = subsets(np.random.default_rng(1).normal(size=(5, 6)), seeds=1)
    found, _ = subset_agreement({}, removed, measured, name="lds", **HOW)
    assert "ceiling" not in found
    assert set(found["methods"]) == {"random", "query_independent"}


@pytest.mark.numerics
def test_gold_agrees_with_itself_and_random_scores_are_right_one_time_in_k():
    generator = np.random.default_rng(0)
    gold = generator.normal(size=(400, 8))
    noise = generator.normal(size=gold.shape)
    scores = {"gold": gold, "noise": noise, "logo_paired": gold, "logo_independent": noise}
    found, per_query = gold_agreement(scores, "logo_paired", **HOW)
    assert found["mrr"]["another_training"] == found["mrr"]["noise"]
    assert not [method for method in found["mrr"] if method.startswith("logo")]
    assert found["spearman"]["gold"]["value"] == pytest.approx(1)
    assert found["top1"]["gold"]["value"] == 1
    assert found["top1"]["noise"]["value"] == pytest.approx(1 / 8, abs=0.05)
    np.testing.assert_allclose(per_query["gold"], 1)


@pytest.mark.numerics
def test_the_mean_of_the_others_leaves_oneself_out():
    np.testing.assert_allclose(
        mean_of_others(np.array([[1.0, 2.0, 6.0]]), axis=1), [[4.0, 3.5, 1.5]]
    )


def test_an_attributor_blind_to_its_input_has_a_rate_of_one():
    removed = np.tile(np.arange(5), (40, 1))
    blamed = np.arange(40) % 5
    blind = np.repeat(blamed[:, None], 5, 1)
    assert false_attribution(blamed, blind, removed, **HOW)["value"] == 1


def test_one_that_never_names_an_absent_unit_has_a_rate_of_zero():
    removed = np.tile(np.arange(5), (40, 1))
    blamed = np.arange(40) % 5
    without = np.where(removed == blamed[:, None], (blamed[:, None] + 1) % 5, blamed[:, None])
    found = false_attribution(blamed, without, removed, **HOW)
    assert found["value"] == 0
    assert found["without_another"] == 1


def test_queries_whose_nearest_image_belongs_to_no_unit_are_left_out():
    removed = np.tile(np.arange(3), (4, 1))
    blamed = np.array([0, -1, 1, 2])
    without = np.where(removed == blamed[:, None], -1, blamed[:, None])
    assert false_attribution(blamed, without, removed, **HOW)["value"] == 0


def test_the_radius_is_the_mean_farthest_distance_and_knows_its_null():
    distance = np.array([[0.1, 0.4], [0.2, 0.0]])
    null = np.array([[0.1, 0.1], [0.3, 0.2]])
    found = radius(distance, null, **HOW)
    assert found["radius"]["value"] == pytest.approx(0.3)
    assert found["null"]["value"] == pytest.approx(0.2)
    assert found["excess"]["value"] == pytest.approx(0.1)
    assert found["published"]["value"] == pytest.approx(0.3 * PUBLISHED_SCALE)
    assert "null" not in radius(distance, distance[:, :0], **HOW)


def test_the_nearest_unit_is_that_of_the_nearest_image():
    training = np.random.default_rng(0).normal(size=(6, 1, 2, 2))
    unit = np.array([0, 0, 3, 3, 4, -1])
    found = nearest_unit(training[None, ::-1] + 1e-3, training, unit)
    assert found.tolist() == [[-1, 4, 3, 3, 0, 0]]


def test_everything_together_and_the_headline():
    generator = np.random.default_rng(0)
    effect = generator.normal(size=(6, 10))
    groups = generator.normal(size=(6, 4))
    truths = {"lds": Truth(*subsets(effect)), "group_lds": Truth(*subsets(groups))}
    training = generator.normal(size=(10, 1, 2, 2))
    unit = np.tile(np.append(np.arange(4), [-1] * 4), (6, 1)).astype(np.int32)
    redrawn = Redrawn(
        training[:6],
        generator.normal(size=(6, 8, 1, 2, 2)),
        unit,
        generator.random((6, 8)),
        np.arange(10) % 4,
    )
    summary, tables = evaluate(
        {"ensemble_matched": effect, "pixel_rbf": effect},
        {"ensemble_matched": groups, "pixel_rbf": groups, "logo_retrained": groups},
        truths,
        {"groups_redrawn": redrawn},
        training,
        **HOW,
    )
    assert set(tables) == {"lds", "group_lds", "logo_spearman"}
    brief = headline(summary, ["ensemble_matched", "logo_retrained"])
    assert brief["lds"]["ensemble_matched"] > 0.8
    assert set(brief["group_lds"]) == {"ensemble_matched", "logo_retrained", "ceiling"}
    assert brief["logo_top1"] == {"ensemble_matched": 1.0}
    assert set(brief["groups_redrawn"]) == {"radius", "false_attribution"}
