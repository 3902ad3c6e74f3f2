"""Schedules and predictions against diffusers, and against themselves."""

import pytest
import torch
from diffusers import DDPMScheduler

from begat.core.diffusion import (
    SCHEDULES,
    cosine_schedule,
    diffuse,
    predicted_noise,
    training_target,
)

NAMES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("timesteps", [10, 1000])
def test_schedules_are_those_of_diffusers(name, timesteps):
    theirs = DDPMScheduler(timesteps, beta_schedule=NAMES[name]).alphas_cumprod
    ours = SCHEDULES[name](timesteps).alpha_bar
    torch.testing.assert_close(ours.float(), theirs, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_targets_and_noisy_images_are_those_of_diffusers(prediction):
    theirs = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    image, noise = torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4)
    t = torch.tensor([0, 1, 400, 998, 999])
    schedule = cosine_schedule(1000)
    noisy = theirs.add_noise(image, noise, t)
    torch.testing.assert_close(diffuse(schedule, image, t, noise), noisy, rtol=1e-3, atol=1e-5)
    target = noise if prediction == "epsilon" else theirs.get_velocity(image, noise, t)
    found = training_target(schedule, prediction, image, t, noise)
    torch.testing.assert_close(found, target, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_a_perfect_prediction_stands_for_the_true_noise(prediction):
    schedule = cosine_schedule(100)
    image, noise = torch.randn(7, 3, 4, 4).double(), torch.randn(7, 3, 4, 4).double()
    t = torch.arange(7) * 16
    noisy = diffuse(schedule, image, t, noise)
    target = training_target(schedule, prediction, image, t, noise)
    found = predicted_noise(schedule, prediction, target, noisy, t)
    torch.testing.assert_close(found, noise)
