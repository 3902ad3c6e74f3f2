"""The loss landscape by Gram matrices, against the definition; the contrasts' exact identities."""

import itertools

import numpy as np
import pytest
from reference import gram_of, loss_of_average

from begat.ensembles.ablation import (
    CONTRASTS,
    ensemble_loss,
    matched,
    means,
    member_variance,
    mirror,
    naive,
    p_values,
    subset_weights,
)
from begat.ensembles.codes import nested_codes
from begat.errors import BegatError

pytestmark = pytest.mark.numerics

MEMBERS = 8
ERRORS = np.random.default_rng(0).normal(size=(MEMBERS, 5, 11)) + np.arange(MEMBERS)[:, None, None]
GRAM = gram_of(ERRORS)


def subsets(size):
    return [list(s) for s in itertools.combinations(range(MEMBERS), size)]


def mask(members):
    row = np.zeros((1, MEMBERS), bool)
    row[0, members] = True
    return row


@pytest.mark.parametrize("size", range(1, MEMBERS + 1))
def test_the_gram_form_is_the_loss_of_the_averaged_network_for_every_subset(size):
    for members in subsets(size):
        found = ensemble_loss(GRAM, subset_weights(mask(members)))
        np.testing.assert_allclose(found, loss_of_average(ERRORS, members), rtol=1e-12)


@pytest.mark.parametrize("size", range(1, MEMBERS))
def test_smaller_subsets_lose_exactly_the_between_member_variance(size):
    everyone = loss_of_average(ERRORS, list(range(MEMBERS)))
    mean = np.mean([loss_of_average(ERRORS, members) for members in subsets(size)])
    offset = member_variance(GRAM)[0] * (1 / size - 1 / MEMBERS)
    np.testing.assert_allclose(mean - everyone, offset, rtol=1e-10)


def test_the_whole_is_its_members_mean_loss_less_their_variance():
    single = np.mean([loss_of_average(ERRORS, [i]) for i in range(MEMBERS)])
    whole = single - (MEMBERS - 1) / MEMBERS * member_variance(GRAM)[0]
    np.testing.assert_allclose(loss_of_average(ERRORS, list(range(MEMBERS))), whole)


@pytest.mark.parametrize("size", [2, 4, 5])
def test_the_matched_contrast_averages_to_zero_over_all_codes_of_a_weight(size):
    seen = np.concatenate([mask(members) for members in subsets(size)])
    np.testing.assert_allclose(matched(GRAM, seen).mean(), 0, atol=1e-12)
    assert naive(GRAM, seen).mean() > 0.01


def test_the_mirror_contrast_changes_sign_with_the_code():
    seen = np.concatenate([mask(members) for members in subsets(3)])
    np.testing.assert_allclose(mirror(GRAM, ~seen), -mirror(GRAM, seen), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(means(GRAM, ~seen), -means(GRAM, seen), atol=1e-12)


def test_each_member_missing_one_unit_makes_ablation_leave_one_out():
    seen = ~np.eye(MEMBERS, dtype=bool)
    everyone = loss_of_average(ERRORS, list(range(MEMBERS)))
    expected = [loss_of_average(ERRORS, [i]) - everyone for i in range(MEMBERS)]
    np.testing.assert_allclose(naive(GRAM, seen)[0], expected)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_identical_members_give_every_unit_a_score_of_zero(contrast):
    same = gram_of(np.repeat(ERRORS[:1], MEMBERS, 0))
    seen = nested_codes(0, "x", 20, MEMBERS)
    np.testing.assert_allclose(CONTRASTS[contrast](same, seen), 0, atol=1e-12)
    np.testing.assert_allclose(member_variance(same), 0, atol=1e-12)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_permuting_codes_over_units_permutes_scores(contrast):
    seen = nested_codes(0, "x", 20, MEMBERS)
    order = np.random.default_rng(1).permutation(20)
    scores = CONTRASTS[contrast](GRAM, seen)
    np.testing.assert_allclose(CONTRASTS[contrast](GRAM, seen[order]), scores[:, order])


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_a_unit_whose_members_err_less_is_said_to_help(contrast):
    errors = np.random.default_rng(0).normal(size=(MEMBERS, 40, 50))
    seen = mask([0, 1, 2, 3])
    errors[seen[0]] *= 0.5
    assert CONTRASTS[contrast](gram_of(errors), seen)[0, 0] > 0


def test_the_gradient_of_the_loss_in_the_weights_is_twice_gram_times_weights():
    weights, step = np.full(MEMBERS, 1 / MEMBERS), 1e-6
    moved = [ensemble_loss(GRAM, (weights + sign * step * np.eye(MEMBERS))) for sign in (1, -1)]
    numerical = (moved[0] - moved[1])[0] / (2 * step)
    np.testing.assert_allclose(numerical, 2 * GRAM[0] @ weights, rtol=1e-6)


def test_removing_all_members_is_an_error_and_never_a_number():
    with pytest.raises(BegatError, match="unit 1 leaves no member"):
        naive(GRAM, np.concatenate([mask([0]), np.ones((1, MEMBERS), bool)]))


def test_p_values_are_valid_for_units_without_effect():
    generator = np.random.default_rng(0)
    found = p_values(generator.normal(size=(200, 50)), generator.normal(size=(200, 99)))
    assert found.min() >= 0.01
    for level in (0.05, 0.25, 0.5):
        assert (found <= level).mean() == pytest.approx(level, abs=0.02)


def test_ties_with_the_null_count_against_the_unit():
    assert p_values(np.array([[1.0]]), np.array([[1.0, 0.0, 2.0]]))[0, 0] == pytest.approx(0.75)
