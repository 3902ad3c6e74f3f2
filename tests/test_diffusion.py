"""Schedules and predictions against diffusers, and against themselves."""

import pytest
import torch
from diffusers import DDPMScheduler

from begat.diffusion.schedules import (
    SCHEDULES,
    cosine_schedule,
    diffuse,
    predicted_noise,
    training_target,
)

pytestmark = pytest.mark.numerics


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("timesteps", [10, 1000])
def test_schedules_are_those_of_diffusers(name, timesteps):
    theirs = DDPMScheduler(timesteps, beta_schedule=name).alphas_cumprod
    ours = SCHEDULES[name](timesteps).alpha_bar
    # theirs is a product of ``timesteps`` float32 factors, each rounded twice, the last one 1e-3
    close = 2 * (timesteps + 1000) * 2**-24
    torch.testing.assert_close(ours, theirs.double(), rtol=close, atol=0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_targets_and_noisy_images_are_those_of_diffusers(prediction):
    schedule, theirs = cosine_schedule(1000), DDPMScheduler(1000)
    theirs.alphas_cumprod = schedule.alpha_bar
    image, noise = torch.randn(2, 5, 1, 4, 4).double()
    t = torch.tensor([0, 1, 400, 998, 999])
    noisy = theirs.add_noise(image, noise, t)
    torch.testing.assert_close(diffuse(schedule, image, t, noise), noisy, rtol=1e-9, atol=1e-9)
    target = noise if prediction == "epsilon" else theirs.get_velocity(image, noise, t)
    computed = training_target(schedule, prediction, image, t, noise)
    torch.testing.assert_close(computed, target, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_stands_for_the_true_noise(prediction):
    schedule = cosine_schedule(100)
    image, noise = torch.randn(7, 3, 4, 4).double(), torch.randn(7, 3, 4, 4).double()
    t = torch.arange(7) * 16
    noisy = diffuse(schedule, image, t, noise)
    target = training_target(schedule, prediction, image, t, noise)
    predicted = predicted_noise(schedule, prediction, target, noisy, t)
    torch.testing.assert_close(predicted, noise, rtol=1e-9, atol=1e-9)
