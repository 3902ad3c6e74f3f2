"""Ensemble losses by Gram matrices against their definition; exact identities of the contrasts."""

import itertools

import numpy as np
import pytest
from reference import gram_of, loss_of_average

from begat.ensembles.ablation import (
    CONTRASTS,
    as_published,
    ensemble_loss,
    member_variance,
    out_minus_in_ensemble,
    out_minus_in_members,
    p_values,
    size_matched,
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
        loss = ensemble_loss(GRAM, subset_weights(mask(members)))
        np.testing.assert_allclose(loss, loss_of_average(ERRORS, members), rtol=1e-12)


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
def test_the_size_matched_contrast_averages_to_zero_over_all_codes_of_a_weight(size):
    exposure = np.concatenate([mask(members) for members in subsets(size)])
    np.testing.assert_allclose(size_matched(GRAM, exposure).mean(), 0, atol=1e-12)
    assert as_published(GRAM, exposure).mean() > 0.01


@pytest.mark.parametrize("contrast", [out_minus_in_ensemble, out_minus_in_members])
def test_out_minus_in_changes_sign_with_the_code(contrast):
    exposure = np.concatenate([mask(members) for members in subsets(3)])
    scores, complemented = contrast(GRAM, exposure), contrast(GRAM, ~exposure)
    np.testing.assert_allclose(complemented, -scores, rtol=1e-9, atol=1e-12)


def test_each_member_missing_one_unit_makes_ablation_leave_one_out():
    exposure = ~np.eye(MEMBERS, dtype=bool)
    everyone = loss_of_average(ERRORS, list(range(MEMBERS)))
    expected = [loss_of_average(ERRORS, [i]) - everyone for i in range(MEMBERS)]
    np.testing.assert_allclose(as_published(GRAM, exposure)[0], expected)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_identical_members_give_every_unit_a_score_of_zero(contrast):
    same = gram_of(np.repeat(ERRORS[:1], MEMBERS, 0))
    exposure = nested_codes(0, "x", 20, MEMBERS)
    np.testing.assert_allclose(CONTRASTS[contrast](same, exposure), 0, atol=1e-12)
    np.testing.assert_allclose(member_variance(same), 0, atol=1e-12)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_permuting_codes_over_units_permutes_scores(contrast):
    exposure = nested_codes(0, "x", 20, MEMBERS)
    order = np.random.default_rng(1).permutation(20)
    scores = CONTRASTS[contrast](GRAM, exposure)
    np.testing.assert_allclose(CONTRASTS[contrast](GRAM, exposure[order]), scores[:, order])


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_a_unit_whose_members_err_less_has_a_positive_score(contrast):
    errors = np.random.default_rng(0).normal(size=(MEMBERS, 40, 50))
    exposure = mask([0, 1, 2, 3])
    errors[exposure[0]] *= 0.5
    assert CONTRASTS[contrast](gram_of(errors), exposure)[0, 0] > 0


def test_the_gradient_of_the_loss_in_the_weights_is_twice_gram_times_weights():
    weights, step = np.full(MEMBERS, 1 / MEMBERS), 1e-6
    moved = [ensemble_loss(GRAM, (weights + sign * step * np.eye(MEMBERS))) for sign in (1, -1)]
    numerical = (moved[0] - moved[1])[0] / (2 * step)
    np.testing.assert_allclose(numerical, 2 * GRAM[0] @ weights, rtol=1e-6)


def test_removing_all_members_is_an_error_and_never_a_number():
    with pytest.raises(BegatError, match="unit 1 leaves no member"):
        as_published(GRAM, np.concatenate([mask([0]), np.ones((1, MEMBERS), bool)]))


def test_p_values_are_valid_for_units_without_effect():
    generator = np.random.default_rng(0)
    values = p_values(generator.normal(size=(200, 50)), generator.normal(size=(200, 99)))
    assert values.min() >= 0.01
    for level in (0.05, 0.25, 0.5):
        assert (values <= level).mean() == pytest.approx(level, abs=0.02)


def test_ties_with_the_null_count_against_the_unit():
    assert p_values(np.array([[1.0]]), np.array([[1.0, 0.0, 2.0]]))[0, 0] == pytest.approx(0.75)
