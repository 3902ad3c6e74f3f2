"""Scores of every method, and their way from images to groups."""

import numpy as np
import pytest

from begat.core.codes import hadamard_codes, nested_blocks, nested_codes
from begat.core.ensembles import CONTRASTS
from begat.errors import BegatError
from begat.stages import aggregated, scores_ensemble, scores_logo, scores_pixel

pytestmark = pytest.mark.numerics

UNITS, MEMBERS, QUERIES = 30, 10, 4


def gram_with_effect(seen, unit, size, seed=0):
    """Gram matrices of members that err less on query 0 if they saw ``unit``."""
    errors = np.random.default_rng(seed).normal(size=(QUERIES, seen.shape[1], 200))
    errors[0, seen[unit]] *= 1 - size
    return errors @ errors.transpose(0, 2, 1) / 200


def scored(gram, seen, **changes):
    blocks = nested_blocks(UNITS, MEMBERS)
    how = {"seed": 0, "level": "image", "nulls": 199, **changes}
    return scores_ensemble.score(gram, seen, blocks, **how)


@pytest.mark.parametrize("variant", range(len(CONTRASTS)))
def test_a_unit_with_a_real_effect_comes_first_and_is_unlikely_by_chance(variant):
    seen = nested_codes(0, "x", UNITS, MEMBERS)
    found = scored(gram_with_effect(seen, 17, 0.6), seen)
    assert found["score"][variant, 0].argmax() == 17
    assert found["p_value"][variant, 0, 17] <= 0.02
    assert found["score"][variant, 0, 17] > 2 * found["uncertainty"][variant, 0, 17]


def test_p_values_of_units_without_effect_are_spread_evenly():
    values = []
    for seed in range(40):
        seen = nested_codes(seed, "x", UNITS, MEMBERS)
        gram = gram_with_effect(seen, 0, 0.0, seed)
        values.append(scored(gram, seen, seed=seed)["p_value"][0, 0])
    values = np.concatenate(values)
    for level in (0.1, 0.5, 0.9):
        assert (values <= level).mean() == pytest.approx(level, abs=0.06)


def test_units_seen_by_unequal_numbers_of_members_are_refused():
    seen = nested_codes(0, "x", UNITS, MEMBERS)
    seen[3, seen[3].argmin()] = True
    with pytest.raises(BegatError, match="seen by 5 to 6 members; p-values need equal"):
        scored(gram_with_effect(seen, 0, 0.1), seen)


def test_p_values_without_an_unused_code_are_refused():
    seen = np.array([[1, 0], [0, 1]], bool)
    with pytest.raises(BegatError, match="every group code is in use, none is left"):
        gram = np.tile(np.eye(2), (1, 1, 1))
        scores_ensemble.score(gram, seen, [2], seed=0, level="group", nulls=9)


def test_only_units_that_were_redrawn_without_have_a_distance():
    unit = np.array([[4, 1], [0, 2]], np.int32)
    table = scores_ensemble.spread_out(np.array([[0.1, 0.2], [0.3, 0.4]]), unit, 5)
    nan = np.nan
    expected = [[nan, 0.2, nan, nan, 0.1], [0.3, nan, 0.4, nan, nan]]
    np.testing.assert_allclose(table, expected, rtol=1e-6)


def test_the_same_image_is_most_similar_to_itself():
    images = np.random.default_rng(0).uniform(-1, 1, (20, 3, 4, 4))
    found = scores_pixel.similarity(images[:5], images)[0]
    np.testing.assert_array_equal(found.argmax(1), range(5))
    np.testing.assert_allclose(found[range(5), range(5)], 1, atol=1e-6)
    assert ((found > 0) & (found <= 1)).all()


def test_the_kernel_is_as_wide_as_neighbours_are_apart(monkeypatch):
    monkeypatch.setattr("begat.core.distances.BLOCK", 7)
    images = np.random.default_rng(0).uniform(-1, 1, (20, 1, 4, 4))
    distance = np.sqrt(((images[:, None] - images) ** 2).mean((2, 3, 4)))
    width = np.median((distance + np.eye(20) * 99).min(1))
    expected = np.exp(-0.5 * (distance[:3] / width) ** 2)
    np.testing.assert_allclose(scores_pixel.similarity(images[:3], images)[0], expected, rtol=1e-6)


def test_leaving_a_group_out_scores_what_the_loss_rises_by():
    generator = np.random.default_rng(0)
    full = generator.random((2, 3, 8))  # seed, query, draw
    rise = np.array([0.5, 0.0, -0.2])
    without = full + rise[:, None, None, None]
    found = scores_logo.score(full, without)
    np.testing.assert_allclose(found["group_score"][0], np.tile(rise, (3, 1)), atol=1e-12)
    np.testing.assert_allclose(found["group_uncertainty"], 0, atol=1e-12)
    same = scores_logo.score(full, np.repeat(full[None], 4, 0))
    assert (same["group_score"] == 0).all()


def test_the_uncertainty_of_a_loss_is_its_standard_error_over_pairs_of_draws():
    generator = np.random.default_rng(0)
    pairs = generator.normal(size=(1, 1, 500, 16))
    without = np.stack([pairs + 1, pairs - 1], -1).reshape(1, 1, 500, 32)
    found = scores_logo.score(np.zeros((1, 500, 32)), without)
    assert found["group_uncertainty"].mean() == pytest.approx(1 / 4, rel=0.05)
    assert found["group_score"].std() == pytest.approx(1 / 4, rel=0.1)


def test_group_scores_are_sums_over_images_also_where_groups_overlap():
    generator = np.random.default_rng(0)
    score = generator.normal(size=(2, 3, 10))
    member_of = generator.random((4, 10)) < 0.5
    total, _ = aggregated.summed(score, member_of)
    for group in range(4):
        np.testing.assert_allclose(total[:, :, group], score[:, :, member_of[group]].sum(-1))


def test_the_uncertainty_of_a_sum_is_that_of_random_images():
    generator = np.random.default_rng(0)
    score = generator.normal(size=(1, 1, 40))
    sums = [score[0, 0, generator.permutation(40)[:15]].sum() for _ in range(20_000)]
    member_of = (np.arange(40) < 15)[None]
    _, spread = aggregated.summed(score, member_of)
    assert spread[0, 0, 0] == pytest.approx(np.std(sums), rel=0.02)


def test_a_group_of_all_images_has_no_uncertainty():
    _, spread = aggregated.summed(
        np.random.default_rng(0).normal(size=(1, 2, 9)), np.ones((1, 9)) > 0
    )
    np.testing.assert_allclose(spread, 0, atol=1e-7)


def test_rows_are_named_by_method_and_way():
    seen = hadamard_codes(0, "x", 5, 8)
    scores = {
        "score": np.zeros((2, 3, 10)),
        "group_score": np.ones((2, 3, 5)),
        "group_uncertainty": np.ones((2, 3, 5)),
    }
    member_of = np.arange(10) % 5 == np.arange(5)[:, None]
    assert seen.shape == (5, 8)
    names = ["a", "b"]
    both = aggregated.group_rows(names, names, scores, member_of)
    assert list(both) == ["a", "b", "a_summed", "b_summed"]
    other = aggregated.group_rows(names, ["a", "c"], scores, member_of)
    assert list(other) == ["a", "c", "a_summed", "b"]
    images_only = aggregated.group_rows(names, names, {"score": scores["score"]}, member_of)
    assert list(images_only) == names
