"""A pack in training against separate diffusers models in training."""

import itertools

import numpy as np
import pytest
import torch
from reference import diffusers_models
from small import CONDITIONAL, TINY, random_images, random_rows, roundings

from begat.diffusion.model_training import ModelRun, train
from begat.diffusion.packed_network import NoisedBatch, PackedNetwork
from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.schedules import cosine_schedule, diffuse, training_target
from begat.diffusion.training import (
    PackTraining,
    clip_gradient_norms,
    ema_decay_at,
    learning_rate_at,
    snapshot_steps,
)
from begat.diffusion.training_batches import TrainingImages
from begat.diffusion.training_config import OptimiserConfig, TrainingConfig
from begat.errors import BegatError

OPTIMISER = dict(
    num_steps=12,
    learning_rate=5e-3,
    warmup_steps=2,
    weight_decay=0.1,
    max_grad_norm=0.5,
    ema_decay=0.9,
)
EXACT = {"dtype": torch.float64}
SCHEDULE = cosine_schedule(50)


def packed_training(config, rows, prediction, steps=4):
    network = PackedNetwork(config, SCHEDULE, prediction)
    optimiser = OptimiserConfig(**{**OPTIMISER, "num_steps": steps, "learning_rate": 0.01})
    return PackTraining(network, rows, optimiser)


def step_data(config, models, step, dtype=torch.float64):
    generator = torch.Generator().manual_seed(step)
    shape = (models, 4, config.image_channels, config.sample_size, config.sample_size)
    image, noise = torch.randn(2, *shape, generator=generator, dtype=dtype)
    t = torch.randint(50, (models, 4), generator=generator)
    label = torch.randint(config.classes or 1, (models, 4), generator=generator)
    return image, t, noise, label if config.classes else None


@pytest.mark.numerics
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_training_steps_are_those_of_separate_diffusers_models(config, prediction):
    rows = random_rows(config, 3).double()
    training = packed_training(config, rows, prediction)
    packed_losses = [training.step(NoisedBatch(*step_data(config, 3, step))) for step in range(4)]
    trained = training.state()
    for k, model in enumerate(diffusers_models(config, rows)):
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        average = {n: p.detach().clone() for n, p in model.named_parameters()}
        for step in range(4):
            image, t, noise, label = step_data(config, 3, step)
            noisy = diffuse(SCHEDULE, image[k], t[k], noise[k])
            target = training_target(SCHEDULE, prediction, image[k], t[k], noise[k])
            labels = None if label is None else label[k]
            loss = (model(noisy, t[k], class_labels=labels).sample - target).square().mean()
            assert packed_losses[step][k].item() == pytest.approx(loss.item(), rel=1e-9)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimiser.param_groups[0]["lr"] = learning_rate_at(step, 0.01, 2, 4)
            optimiser.step()
            for name, parameter in model.named_parameters():
                average[name].lerp_(parameter.detach(), 1 - ema_decay_at(step, 0.9))
        for array, expected in (
            ("weights", dict(model.named_parameters())),
            ("ema_weights", average),
        ):
            found = unflatten(trained[array], config)
            for name, value in expected.items():
                torch.testing.assert_close(found[name][k], value, rtol=1e-9, atol=1e-9)


@pytest.mark.numerics
def test_clipping_limits_each_models_own_norm():
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64)
    norms = clip_gradient_norms(gradient, 1.0).norm(dim=1)
    expected = [5 / (5 + 1e-6), 0.5, 0.0]  # as clip_grad_norm_ does
    np.testing.assert_allclose(norms, expected, rtol=1e-9)


def test_the_learning_rate_warms_up_and_falls_to_zero_as_a_cosine():
    rates = [learning_rate_at(step, 1.0, 4, 14) for step in range(14)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[9] == pytest.approx(0.5)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))


def run(config, models, *, on=None, label=None, resume=None, until=None, **changes):
    masks = np.ones((len(models), 20), bool) if on is None else on
    data = TrainingImages(random_images(20, config), label, changes.pop("random_flip", False))
    dtype = changes.pop("dtype", torch.float32)
    network = PackedNetwork(config, SCHEDULE, "v_prediction", dtype=dtype)
    optimiser = {key: changes.pop(key, value) for key, value in OPTIMISER.items()}
    states = train(
        data,
        [ModelRun(name, name, mask) for name, mask in zip(models, masks, strict=True)],
        network,
        TrainingConfig(OptimiserConfig(**optimiser), **{"batch_size": 3, **changes}),
        seed=7,
        resume=resume,
    )
    for step, state in states:
        if until is not None and step >= until:
            break
    return step, state()


@pytest.mark.numerics
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_killed_training_that_resumes_ends_with_the_same_bits(dropout, monkeypatch):
    monkeypatch.setattr("begat.diffusion.model_training.YIELD_INTERVAL", 5)
    _, whole = run(TINY, ["a", "b"], dropout=dropout, num_snapshots=3)
    halted = run(TINY, ["a", "b"], until=5, dropout=dropout, num_snapshots=3)
    assert halted[0] == 5
    step, resumed = run(TINY, ["a", "b"], resume=halted, dropout=dropout, num_snapshots=3)
    assert step == OPTIMISER["num_steps"]
    assert whole["snapshots"].shape == (2, 3, whole["weights"].shape[1])
    for name, rows in whole.items():
        np.testing.assert_array_equal(resumed[name], rows)


def test_a_training_that_was_complete_when_killed_only_yields_its_result():
    _, whole = run(TINY, ["a"])
    step, again = run(TINY, ["a"], resume=(OPTIMISER["num_steps"], whole))
    assert step == OPTIMISER["num_steps"]
    np.testing.assert_array_equal(again["weights"], whole["weights"])


@pytest.mark.numerics
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_model_does_not_depend_on_its_pack(dropout):
    on, how = np.random.default_rng(0).random((3, 20)) < 0.6, {**EXACT, "dropout": dropout}
    _, together = run(TINY, ["a", "b", "c"], on=on, **how)
    for pack in ([0], [2, 1], [2, 0, 1]):
        _, found = run(TINY, ["abc"[k] for k in pack], on=on[pack], **how)
        for array, rows in found.items():
            expected = together[array][pack]
            np.testing.assert_allclose(rows, expected, rtol=1e-9, atol=1e-9, err_msg=array)


@pytest.mark.numerics
def test_a_training_in_float32_begins_as_one_in_float64_but_for_rounding():
    _, single = run(TINY, ["a", "b"])
    _, double = run(TINY, ["a", "b"], **EXACT)
    first, expected = (state["training_loss"][:, 0] for state in (single, double))
    assert (first.dtype, expected.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(first, expected, rtol=roundings(TINY, 3 * 64), atol=0)
    assert (first != expected).any()


@pytest.mark.numerics
def test_snapshots_are_the_weights_in_the_middle_of_equal_stretches(monkeypatch):
    assert snapshot_steps(12, 3) == [2, 6, 10]
    monkeypatch.setattr("begat.diffusion.model_training.YIELD_INTERVAL", 6)
    _, halfway = run(TINY, ["a"], until=6)
    _, whole = run(TINY, ["a"], num_snapshots=3)
    np.testing.assert_array_equal(whole["snapshots"][0, 1], halfway["weights"][0])


def test_training_reduces_the_loss_of_a_model_on_what_it_sees():
    on = np.arange(20)[None] < 2
    _, state = run(
        TINY, ["a"], on=on, num_steps=150, batch_size=16, learning_rate=0.01, max_grad_norm=5.0
    )
    losses = state["training_loss"][0]
    assert losses[-30:].mean() < 0.7 * losses[:10].mean()


def test_flips_and_labels_reach_the_network():
    label = np.arange(20) % 5
    _, plain = run(CONDITIONAL, ["a"], label=label)
    _, flipped = run(CONDITIONAL, ["a"], label=label, random_flip=True)
    _, relabelled = run(CONDITIONAL, ["a"], label=label[::-1].copy())
    assert not np.array_equal(plain["weights"], flipped["weights"])
    assert not np.array_equal(plain["weights"], relabelled["weights"])


def test_a_training_that_diverges_names_the_model_and_the_step():
    with pytest.raises(BegatError, match=r"model '[ab]' diverged: its loss at step \d+ is"):
        run(TINY, ["a", "b"], learning_rate=1e30, max_grad_norm=1e30, warmup_steps=0)
