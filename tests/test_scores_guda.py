"""Scores from unlearned models: zero without unlearning, the ground truth for retrained weights."""

import numpy as np
import pytest
import torch
from small import TINY, random_images, random_predictor, random_rows

from begat.diffusion.elbo import elbo_weights
from begat.diffusion.measurement import measure
from begat.diffusion.noise_predictors import PackPredictor
from begat.diffusion.pixels import to_model_range
from begat.diffusion.schedules import cosine_schedule
from begat.errors import BegatError
from begat.unlearning import leave_one_out
from begat.unlearning.scores import METHODS, gather, posterior_weights, score

pytestmark = pytest.mark.numerics

WEIGHTS = elbo_weights(cosine_schedule(50)).numpy()
PIXELS = 64


def measured(rows, which=range(3)):
    predictor = PackPredictor(rows, TINY, cosine_schedule(50), "v_prediction", torch.device("cpu"))
    shape = (3, 1, 8, 8)
    pixels = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)[list(which)]
    label = np.full(len(pixels), -1, np.int32)
    return measure(predictor, pixels, label, list(which), seed=3, draws=6, gram=False)


def scored(found):
    loss = found["loss"]
    return score(loss[0], loss[1:], found["timestep"], WEIGHTS, PIXELS)


def test_nothing_forgotten_scores_exactly_nothing():
    rows = random_rows(TINY, 1).repeat(4, 1)
    found = scored(measured(rows))
    np.testing.assert_array_equal(found["group_score"], 0)
    np.testing.assert_array_equal(found["group_uncertainty"], 0)


def test_retrained_weights_in_place_of_forgetful_ones_give_the_truth():
    measurement = measured(random_rows(TINY, 4).double())
    found, loss = scored(measurement), measurement["loss"]
    truth = leave_one_out.score(loss[:1], loss[1:, None], measurement["timestep"], WEIGHTS, PIXELS)
    for name in ("group_score", "group_uncertainty"):  # in loss and in nats
        np.testing.assert_allclose(found[name][:2], truth[name], rtol=1e-9, atol=1e-9)


def test_a_score_does_not_depend_on_the_order_of_queries_or_groups():
    rows = random_rows(TINY, 4).double()
    found = scored(measured(rows))["group_score"][:2]
    turned = scored(measured(rows, [2, 0, 1]))["group_score"][:2]
    np.testing.assert_allclose(turned, found[:, [2, 0, 1]], rtol=1e-9, atol=1e-9)
    turned = scored(measured(rows[[0, 3, 1, 2]]))["group_score"]
    expected = scored(measured(rows))["group_score"][..., [2, 0, 1]]
    np.testing.assert_allclose(turned, expected, rtol=1e-9, atol=1e-9)


def test_a_small_example_by_hand():
    full = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    without = np.array([[[2.0, 2.0, 4.0, 4.0], [2.0, 2.0, 2.0, 2.0]]])
    timestep = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    weights = np.array([0.0, 10.0, 1.0])
    found = score(full, without, timestep, weights, 5)
    loss, elbo, loss_centred, elbo_centred = found["group_score"][..., 0]
    assert loss.tolist() == [2, 0]
    assert elbo.tolist() == [3 * 5 * (10 * 1 + 1 * 3) / 2, 0]
    assert loss_centred.tolist() == [1, -1]
    assert elbo_centred.tolist() == [97.5 / 2, -97.5 / 2]
    # pairs differ by 1 and 3: standard deviation sqrt 2, over sqrt 2 pairs
    assert found["group_uncertainty"][0, :, 0].tolist() == pytest.approx([1, 0])
    assert len(found["group_score"]) == len(METHODS)


def test_a_shift_of_a_whole_group_is_centred_away():
    generator = np.random.default_rng(0)
    full, without = generator.random((5, 8)), generator.random((3, 5, 8))
    timestep = np.tile(generator.integers(0, 50, 8), (5, 1))
    plain = score(full, without, timestep, WEIGHTS, PIXELS)["group_score"]
    without[1] += 0.5
    shifted = score(full, without, timestep, WEIGHTS, PIXELS)["group_score"]
    np.testing.assert_allclose(shifted[2:], plain[2:], rtol=1e-9, atol=1e-9)
    assert (shifted[0, :, 1] > plain[0, :, 1]).all()


def test_packs_are_gathered_by_name_and_no_group_is_silently_zero():
    losses = np.arange(12.0).reshape(3, 2, 2)
    packs = [(["b"], losses[1:2]), (["c", "a"], losses[[2, 0]])]
    np.testing.assert_array_equal(gather(packs, ["a", "b", "c"]), losses)
    with pytest.raises(BegatError, match="expected one without 'b', found none"):
        gather(packs[1:], ["a", "b", "c"])
    with pytest.raises(BegatError, match="'b' is in two packs"):
        gather([*packs, packs[0]], ["a", "b", "c"])
    with pytest.raises(BegatError, match="'c' is not one of the groups"):
        gather(packs, ["a", "b"])


def test_a_loss_that_is_not_a_number_is_refused():
    loss = measured(random_predictor(TINY, 2).rows)["loss"]
    loss[1, 0, 0] = np.nan
    with pytest.raises(BegatError, match="not finite"):
        score(loss[0], loss[1:], np.ones((3, 6), int), WEIGHTS, PIXELS)


def test_the_query_itself_has_the_largest_posterior_weight_and_other_groups_have_none():
    pixels = random_images(8, TINY)
    queries = to_model_range(pixels[[1, 5]].astype(np.float32))
    members = np.zeros((2, 8), bool)
    members[0, :4] = members[1, 4:] = True
    weights = posterior_weights(queries, pixels, members, cosine_schedule(50), seed=0, draws=8)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert weights.argmax(1).tolist() == [1, 5]
    assert (weights[~members] == 0).all()
    alone = posterior_weights(
        queries[:1], pixels, members[:1], cosine_schedule(50), seed=0, draws=8
    )
    np.testing.assert_allclose(alone[0], weights[0], rtol=1e-9)
