"""The TRAK family against its formulas, and through a network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import TINY, random_images, random_rows

from begat.diffusion.denoisers import unet_denoiser
from begat.diffusion.draws import common_draws
from begat.diffusion.schedules import cosine_schedule
from begat.errors import BegatError
from begat.influence.gradient_source import ImageSet, gradient_source
from begat.influence.gradients import image_gradients, image_losses
from begat.influence.layers import row_width
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
    result = weights(IMAGES, QUERIES, [0.1])
    residual = np.arange(12.0)
    np.testing.assert_allclose(das(result, residual)[0], result[0] ** 2 * residual)


def test_images_without_gradients_are_refused():
    with pytest.raises(BegatError, match="no gradients at all"):
        weights(np.zeros((3, 2)), np.ones((1, 2)), [0.1])


SCHEDULE = cosine_schedule(50)


def case(prediction="epsilon"):
    """A network with the draws to differentiate it on, images and queries."""
    row = random_rows(TINY, 1)[0].double()
    denoiser = unet_denoiser(row, TINY, SCHEDULE, prediction, torch.device("cpu"))
    images = ImageSet(random_images(6, TINY), None, range(6))
    queries = ImageSet(random_images(2, TINY, seed=1), None, range(2))
    draws = common_draws(0, "test", 4, 50, (1, 8, 8))
    return gradient_source(denoiser, draws, norms=False), images, queries


def test_each_method_is_its_formula_on_a_networks_gradients():
    source, images, queries = case()

    def by_draw(image_set, measurement):
        parts = source.draws_per_image(image_set)
        stream = image_gradients(source, image_set, (measurement,), parts=parts)
        return torch.cat([rows for _, (rows,) in stream], 1).numpy()

    grid = [0.01, 1.0]
    for method, measurement in (("trak", "noise"), ("dtrak", "square")):
        result = score(source, images, queries, method, grid, seed=0)
        of_images, of_queries = (by_draw(s, measurement).mean(0) for s in (images, queries))
        expected = weights(of_images, of_queries, grid)
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-12)

    def unit(rows):
        return (rows / np.linalg.norm(rows, axis=2, keepdims=True)).mean(0)

    result = score(source, images, queries, "das", grid, seed=0)
    of_images, of_queries = (unit(by_draw(s, "mean")) for s in (images, queries))
    expected = weights(of_images, of_queries, grid) ** 2
    losses = image_losses(source, images).numpy()
    np.testing.assert_allclose(result, expected * losses, rtol=1e-6, atol=1e-15)
    assert (result >= 0).all()


@pytest.mark.parametrize("method", ["trak", "dtrak", "das"])
def test_neither_blocks_nor_order_change_a_score_projected_or_not(method):
    source, images, queries = case("v_prediction")
    order = [3, 5, 0, 1, 4, 2]
    for projection_dim in (None, 4):
        options = dict(seed=0, projection_dim=projection_dim)
        whole = score(source, images, queries, method, [0.1], **options)
        smaller_blocks = replace(source, max_examples=8)
        other = score(smaller_blocks, images.subset(order), queries, method, [0.1], **options)
        np.testing.assert_allclose(other, whole[:, :, order], rtol=1e-6, atol=1e-12)
    with pytest.raises(BegatError, match="at most the"):
        score(source, images, queries, method, [0.1], seed=0, projection_dim=10**6)


def test_gradients_that_do_not_fit_into_memory_are_refused_with_how_many_would():
    source, *_ = case()
    parameters, size = row_width(source.layers), source.denoiser.like.element_size()
    for kept, projection_dim in ((parameters, 0), (9, 9)):
        require_memory(source, 1000, projection_dim, 1000 * kept * size)
        limit = f"projected gradients: expected at most {kept - 1} dimensions for each of 1000 "
        with pytest.raises(BegatError, match=limit + rf".* found {projection_dim}\b"):
            require_memory(source, 1000, projection_dim, 1000 * kept * size - 1)


def test_an_images_loss_is_the_mean_squared_error_of_its_noise():
    source, images, _ = case()
    whole = image_losses(source, images)
    torch.testing.assert_close(image_losses(replace(source, max_examples=4), images), whole)
    assert whole.shape == (6,)
    assert 0.5 < whole.mean() < 20
