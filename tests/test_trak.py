"""The TRAK family against its formulas, and through a network."""

import numpy as np
import pytest
import torch
from begat.diffusion.image_draws import common_draws
from small import TINY, random_images, random_rows

from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.schedules import cosine_schedule
from begat.errors import BegatError
from begat.influence.gradients import Sample, image_gradients, image_losses
from begat.influence.layers import covered_layers, width
from begat.influence.trak import require_memory, score
from begat.influence.trak_kernels import das, feature_form, kernel_form, weights

pytestmark = pytest.mark.numerics

GENERATOR = np.random.default_rng(0)
IMAGES, QUERIES = GENERATOR.normal(size=(12, 30)), GENERATOR.normal(size=(4, 30))


@pytest.mark.parametrize("features", [30, 5])
def test_the_feature_form_is_the_kernel_form(features):
    images, queries = IMAGES[:, :features], QUERIES[:, :features]
    grid = [0.0, 1e-3, 1.0, 100.0]
    one, other = kernel_form(images, queries, grid), feature_form(images, queries, grid)
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-10)
    np.testing.assert_array_equal(weights(images, queries, grid), one if features == 30 else other)


def test_weights_are_the_damped_inverse_of_the_kernel():
    kernel = IMAGES @ IMAGES.T
    damping = 0.3 * np.trace(kernel) / 12
    expected = QUERIES @ IMAGES.T @ np.linalg.inv(kernel + damping * np.eye(12))
    np.testing.assert_allclose(weights(IMAGES, QUERIES, [0.3])[0], expected, rtol=1e-9)
    unregularised = weights(IMAGES, IMAGES, [0.0])[0]
    np.testing.assert_allclose(unregularised, np.eye(12), atol=1e-9)


def test_magnitudes_are_never_negative_and_grow_with_the_images_error():
    found = weights(IMAGES, QUERIES, [0.1])
    residual = np.arange(12.0)
    np.testing.assert_allclose(das(found, residual)[0], found[0] ** 2 * residual)


def test_images_without_gradients_are_refused():
    with pytest.raises(BegatError, match="no gradients at all"):
        weights(np.zeros((3, 2)), np.ones((1, 2)), [0.1])


SCHEDULE = cosine_schedule(50)


def case(prediction="epsilon"):
    row = random_rows(TINY, 1)[0].double()
    denoiser = unet_denoiser(row, TINY, SCHEDULE, prediction, torch.device("cpu"))
    images = Sample(random_images(6, TINY), None, range(6))
    queries = Sample(random_images(2, TINY, seed=1), None, range(2))
    return denoiser, images, queries, common_draws(0, "test", 4, 50, (1, 8, 8))


def test_each_method_is_its_formula_on_a_networks_gradients():
    denoiser, images, queries, draws = case()
    layers = covered_layers(denoiser.module)

    def rows(sample, function):
        stream = image_gradients(denoiser, layers, sample, draws, (function,), each_draw=True)
        return torch.cat([r for _, (r,) in stream], 1).numpy()

    grid = [0.01, 1.0]
    for method, function in (("trak", "noise"), ("dtrak", "square")):
        found = score(denoiser, images, queries, draws, method, grid, seed=0)
        expected = weights(rows(images, function).mean(0), rows(queries, function).mean(0), grid)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)

    def unit(r):
        return (r / np.linalg.norm(r, axis=2, keepdims=True)).mean(0)

    found = score(denoiser, images, queries, draws, "das", grid, seed=0)
    expected = weights(unit(rows(images, "mean")), unit(rows(queries, "mean")), grid) ** 2
    losses = image_losses(denoiser, images, draws).numpy()
    np.testing.assert_allclose(found, expected * losses, rtol=1e-6, atol=1e-15)
    assert (found >= 0).all()


@pytest.mark.parametrize("method", ["trak", "dtrak", "das"])
def test_neither_blocks_nor_order_change_a_score_projected_or_not(method):
    denoiser, images, queries, draws = case("v_prediction")
    order = [3, 5, 0, 1, 4, 2]
    for projection in (None, 4):
        how = dict(seed=0, projection=projection)
        whole = score(denoiser, images, queries, draws, method, [0.1], **how)
        other = score(
            denoiser, images.only(order), queries, draws, method, [0.1], **how, examples=8
        )
        np.testing.assert_allclose(other, whole[:, :, order], rtol=1e-6, atol=1e-12)
    with pytest.raises(BegatError, match="at most the"):
        score(denoiser, images, queries, draws, method, [0.1], seed=0, projection=10**6)


def test_gradients_that_do_not_fit_into_memory_are_refused_with_how_many_would():
    denoiser, *_ = case()
    parameters, number = width(covered_layers(denoiser.module)), denoiser.like.element_size()
    for kept, projection in ((parameters, 0), (9, 9)):
        require_memory(denoiser, 1000, projection, 1000 * kept * number)
        few = rf"scores_trak.projection_dim: expected at most {kept - 1} numbers of each of 1000 "
        with pytest.raises(BegatError, match=few + rf".* found {projection}\b"):
            require_memory(denoiser, 1000, projection, 1000 * kept * number - 1)


def test_an_images_loss_is_the_mean_squared_error_of_its_noise():
    denoiser, images, _, draws = case()
    whole = image_losses(denoiser, images, draws)
    torch.testing.assert_close(image_losses(denoiser, images, draws, examples=4), whole)
    assert whole.shape == (6,)
    assert 0.5 < whole.mean() < 20
