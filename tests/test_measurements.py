"""Losses and Gram matrices by shared draws, against one model, one query, one draw at a time."""

import numpy as np
import pytest
import torch
from reference import loss_of_average
from small import CONDITIONAL, TINY, random_predictor

from begat.diffusion.draws import shared_draws
from begat.diffusion.measurement import measure
from begat.ensembles.ablation import ensemble_loss, subset_weights
from begat.rng.torch_generators import torch_generator

pytestmark = pytest.mark.numerics
QUERIES, DRAWS, MEMBERS = 5, 6, 4


def queries_of(config, queries=QUERIES):
    shape = (queries, config.image_channels, config.sample_size, config.sample_size)
    pixels = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    label = np.arange(queries, dtype=np.int32) % config.classes if config.classes else None
    return pixels, np.full(queries, -1, np.int32) if label is None else label


def measured(predictor, block=slice(None), gram=True):
    pixels, label = queries_of(predictor.config)
    numbers = range(QUERIES)[block]
    options = dict(seed=3, draws=DRAWS, gram=gram)
    return measure(predictor, pixels[block], label[block], numbers, **options)


def errors_of(predictor, query):
    pixels, label = queries_of(predictor.config)
    shape = pixels.shape[1:]
    t, noise = shared_draws(torch_generator(3, "measurements", query), DRAWS, 50, shape)
    noise = noise.double()
    errors = []
    for model in range(predictor.models):
        row = []
        for draw in range(DRAWS):
            alpha_bar = predictor.schedule.alpha_bar[t[draw]]
            clean = torch.from_numpy(pixels[query]).double()
            noisy = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise[draw]
            classes = torch.tensor([label[query]]).long() if predictor.config.classes else None
            predicted = predictor.predict(model, noisy[None], t[draw : draw + 1], classes)[0]
            row.append((predicted - noise[draw]).flatten().numpy())
        errors.append(row)
    return np.array(errors)  # member, draw, pixel


@pytest.mark.parametrize("config", [TINY, CONDITIONAL], ids=["plain", "conditional"])
def test_losses_are_mean_squared_errors_draw_by_draw(config):
    predictor = random_predictor(config, 2)
    arrays = measured(predictor)
    for query in range(QUERIES):
        expected = (errors_of(predictor, query) ** 2).mean(-1)
        np.testing.assert_allclose(arrays["loss"][:, query], expected, rtol=1e-9)


def test_the_gram_matrix_gives_the_loss_of_the_averaged_network_itself():
    predictor = random_predictor(TINY, MEMBERS)
    gram = measured(predictor)["gram"]
    for query in (0, 3):
        errors = errors_of(predictor, query)
        for members in ([0], [1, 2], [0, 1, 3], [0, 1, 2, 3]):
            subset = np.zeros((1, MEMBERS), bool)
            subset[0, members] = True
            loss = ensemble_loss(gram[query : query + 1], subset_weights(subset))[0, 0]
            assert loss == pytest.approx(loss_of_average(errors, members), rel=1e-9)


def test_the_diagonal_of_the_gram_matrix_is_the_mean_loss():
    arrays = measured(random_predictor(TINY, MEMBERS))
    diagonal = np.diagonal(arrays["gram"], axis1=1, axis2=2).T
    np.testing.assert_allclose(diagonal, arrays["loss"].mean(-1), rtol=1e-9)


def test_a_query_is_measured_alike_alone_in_any_order_and_in_any_batch(monkeypatch):
    predictor = random_predictor(TINY, 2)
    together = measured(predictor)
    for query in range(QUERIES):
        alone = measured(predictor, slice(query, query + 1))
        np.testing.assert_allclose(alone["loss"][:, 0], together["loss"][:, query], rtol=1e-9)
        np.testing.assert_array_equal(alone["timestep"][0], together["timestep"][query])
    monkeypatch.setattr("begat.diffusion.measurement.BATCH", 8)
    monkeypatch.setattr("begat.diffusion.noise_predictors.BATCH", 5)
    split = measured(predictor)
    np.testing.assert_allclose(split["loss"], together["loss"], rtol=1e-9)
    np.testing.assert_allclose(split["gram"], together["gram"], rtol=1e-9, atol=1e-9)


def test_identical_models_differ_by_exactly_nothing():
    predictor = random_predictor(TINY, 1, dtype=torch.float32)
    predictor.rows = predictor.rows.repeat(2, 1)
    predictor.models = 2
    loss = measured(predictor, gram=False)["loss"]
    np.testing.assert_array_equal(loss[0], loss[1])
