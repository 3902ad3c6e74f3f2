"""Counterfactual images: exact where the result is known."""

import numpy as np
import pytest
import torch
from small import CONDITIONAL, TINY, random_predictor

from begat.diffusion.noise_predictors import PackPredictor
from begat.diffusion.query_images import generate, user_supplied
from begat.diffusion.schedulers import SCHEDULERS
from begat.ensembles.ablation import size_matched
from begat.ensembles.codes import hadamard_codes
from begat.ensembles.counterfactuals import (
    factual_images,
    image_slots,
    regenerate,
    removed_images,
    without_groups,
    without_images,
)

SAMPLING = dict(scheduler="ddim", num_inference_steps=4, clip_sample=True)


def only(predictor, model):
    """One member as a predictor of its own."""
    return PackPredictor(
        predictor.rows[model : model + 1],
        predictor.config,
        predictor.schedule,
        predictor.prediction_type,
        predictor.device,
    )


@pytest.mark.numerics
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("config", [TINY, CONDITIONAL], ids=["plain", "conditional"])
def test_of_two_members_ablating_one_leaves_the_other_in_the_shapes_it_had(config, scheduler):
    predictor, sampling = (
        random_predictor(config, 2, dtype=torch.float32),
        {**SAMPLING, "scheduler": scheduler},
    )
    queries = generate(predictor, range(3), seed=0, **sampling)
    members = np.array([[[True, True], [False, True]]] * 2 + [[[True, True], [True, False]]])
    images = regenerate(predictor, members, queries, strength=None, **sampling)
    np.testing.assert_array_equal(images[:, 0], queries["pixels"])
    for member, rows in ((1, slice(0, 2)), (0, slice(2, 3))):
        alone = generate(only(predictor, member), range(3), seed=0, **sampling)
        np.testing.assert_array_equal(images[rows, 1], alone["pixels"][rows])


def test_the_factual_image_of_a_querys_own_generators_is_the_query_itself():
    queries, names = np.zeros((2, 1, 8, 8), np.float32), ["member-0-0", "member-1-0"]

    def recorded(members):
        assert members.shape == (2, 1, 2)
        assert members.all()
        return queries[:, None] + 1

    assert factual_images(recorded, queries, names, names) is queries
    for others in (["full-0-0"], names[:1], "user"):
        assert (factual_images(recorded, queries, others, names) == 1).all()


@pytest.mark.numerics
def test_a_query_is_generated_alike_however_many_others_there_are(monkeypatch):
    predictor = random_predictor(TINY, 2)
    many = generate(predictor, range(6), seed=0, **SAMPLING)
    fewer = generate(predictor, range(2, 4), seed=0, **SAMPLING)
    np.testing.assert_array_equal(fewer["noise"], many["noise"][2:4])
    np.testing.assert_allclose(fewer["pixels"], many["pixels"][2:4], rtol=0, atol=1e-9)
    monkeypatch.setattr("begat.diffusion.noise_predictors.BATCH", 4)
    split = generate(predictor, range(6), seed=0, **SAMPLING)
    np.testing.assert_allclose(split["pixels"], many["pixels"], rtol=0, atol=1e-9)


@pytest.mark.numerics
def test_identical_members_generate_the_same_without_any_of_them():
    predictor = random_predictor(TINY, 1)
    predictor.rows, predictor.models = predictor.rows.repeat(4, 1), 4
    queries = generate(predictor, range(2), seed=0, **SAMPLING)
    exposure = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], bool)
    arrays = without_groups(
        lambda m: regenerate(predictor, m, queries, strength=None, **SAMPLING),
        queries["pixels"],
        exposure,
        [4],
        seed=0,
    )
    np.testing.assert_allclose(arrays["distance"], 0, atol=1e-9)


@pytest.mark.numerics
def test_groups_are_followed_by_as_many_codes_that_no_group_holds():
    predictor = random_predictor(TINY, 8)
    queries = generate(predictor, range(2), seed=0, **SAMPLING)
    received = []

    def recorded(members):
        received.append(members)
        return regenerate(predictor, members, queries, strength=None, **SAMPLING)

    exposure = hadamard_codes(0, "x", 5, 8)
    arrays = without_groups(recorded, queries["pixels"], exposure, [8], seed=0)
    assert arrays["unit"].tolist() == [[0, 1, 2, 3, 4, -1, -1, -1, -1, -1]] * 2
    (survivors,) = received
    np.testing.assert_array_equal(survivors[0, :5], ~exposure)
    codewords = {tuple(row) for row in survivors[0]}
    assert len(codewords) == 10
    expected = np.sqrt(((arrays["pixels"] - arrays["factual"][:, None]) ** 2).mean((2, 3, 4))) / 2
    np.testing.assert_allclose(arrays["distance"], expected, rtol=1e-9)


def test_removed_images_are_the_most_helpful_the_nearest_and_random_others():
    generator = np.random.default_rng(0)
    predictor = random_predictor(TINY, 6)
    queries = generate(predictor, range(3), seed=0, **SAMPLING)
    exposure = np.array(
        [[i % 2, i // 2 % 2, i // 4 % 2, 1, 0, i % 3 == 0] for i in range(20)], bool
    )
    errors = generator.normal(size=(3, 6, 50))
    gram = errors @ errors.transpose(0, 2, 1) / 50
    cluster = np.arange(20, dtype=np.int32)
    cluster[13] = 4
    training = generator.uniform(-1, 1, (20, 1, 8, 8))
    factual = queries["pixels"]
    training[13] = factual[1]  # its cluster is named by its first image
    scores = size_matched(gram, exposure)
    unit = removed_images(scores, factual, cluster, training, range(3), seed=0, top=2, random=3)
    arrays = without_images(
        lambda m: regenerate(predictor, m, queries, strength=None, **SAMPLING),
        factual,
        exposure,
        unit,
    )
    assert image_slots(2, 3) == ["helpful 1", "helpful 2", "nearest", *["random"] * 3]
    assert arrays["unit"].shape == (3, 6)
    assert arrays["unit"][1, 2] == 4
    assert 13 not in arrays["unit"]
    for row in arrays["unit"]:
        assert row[2] not in row[3:]
        assert len(set(row[3:])) == 3


@pytest.mark.numerics
def test_a_user_supplied_query_is_regenerated_from_its_noised_self():
    predictor = random_predictor(TINY, 2, dtype=torch.float32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    label = np.full(2, -1, np.int32)
    how = dict(scheduler="ddim", num_inference_steps=4)
    queries = user_supplied(pixels, label, range(2), seed=0, num_train_timesteps=50, **how)
    np.testing.assert_allclose(queries["pixels"], pixels / 127.5 - 1, rtol=0, atol=2**-23)
    everyone = np.ones((2, 1, 2), bool)

    def distance(strength):
        images = regenerate(predictor, everyone, queries, strength=strength, **SAMPLING)
        return np.abs(images[:, 0] - queries["pixels"]).mean()

    assert distance(0.3) < distance(0.6) < distance(1.0)


@pytest.mark.numerics
def test_the_mean_of_some_members_is_taken_over_the_subset_only():
    predictor = random_predictor(TINY, 3)
    x = torch.randn(4, 1, 8, 8).double()
    members = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1]]).bool()
    mean = predictor.predict_mean(x, 7, None, members)
    t = torch.full((4,), 7)
    single = torch.stack([predictor.predict(m, x, t, None) for m in range(3)])
    for i, mask in enumerate(members):
        torch.testing.assert_close(mean[i], single[mask, i].mean(0), rtol=1e-9, atol=1e-9)
