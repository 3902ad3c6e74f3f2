"""Samplers against those of diffusers, step by step, from the same noise."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from begat.diffusion.sampling import noise_tensors, sample, sampling_timesteps
from begat.diffusion.schedules import cosine_schedule

pytestmark = pytest.mark.numerics

STEPS, SHAPE = 8, (1, 4, 4)


def a_network(x, t):
    """Any deterministic function of image and timestep."""
    return torch.tanh(0.7 * x + t / 500 - 1)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_samples_are_those_of_diffusers(sampler, clip, monkeypatch):
    times = sampling_timesteps(1000, STEPS)
    noise = torch.randn(3, noise_tensors(sampler, times), *SHAPE, dtype=torch.float64)
    ours = sample(a_network, noise, cosine_schedule(1000), times, sampler, clip)
    kind = DDIMScheduler if sampler == "ddim" else DDPMScheduler
    rederive = dict(use_clipped_model_output=True) if sampler == "ddim" else {}
    theirs = kind(
        1000,
        beta_schedule="squaredcos_cap_v2",
        timestep_spacing="trailing",
        clip_sample=clip,
    )
    theirs.alphas_cumprod = theirs.alphas_cumprod.double()
    theirs.alphas_cumprod[:] = cosine_schedule(1000).alpha_bar
    theirs.one = theirs.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    theirs.set_timesteps(STEPS)
    assert theirs.timesteps.tolist() == times
    fresh = iter([*noise[:, 1:].unbind(1), torch.zeros_like(noise[:, 0])])  # they end on noise of 0
    place = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
    monkeypatch.setattr(place, lambda *a, **k: next(fresh))
    x = noise[:, 0]
    for t in times:
        x = theirs.step(a_network(x, t), t, x, **rederive).prev_sample
    torch.testing.assert_close(ours, x.clamp(-1, 1), rtol=1e-6, atol=1e-7)


def test_a_perfect_network_draws_the_image_it_knows():
    image = torch.rand(2, *SHAPE, dtype=torch.float64) * 1.8 - 0.9
    schedule, times = cosine_schedule(1000), sampling_timesteps(1000, 20)

    def knowing(x, t):
        return (x - schedule.alpha_bar[t].sqrt() * image) / (1 - schedule.alpha_bar[t]).sqrt()

    noise = torch.randn(2, noise_tensors("ddpm", times), *SHAPE, dtype=torch.float64)
    for sampler in ("ddim", "ddpm"):
        drawn = sample(knowing, noise, schedule, times, sampler, True)
        torch.testing.assert_close(drawn, image)


def test_timesteps_end_equal_stretches_and_strength_keeps_the_lower_ones():
    assert sampling_timesteps(1000, 4) == [999, 749, 499, 249]
    assert sampling_timesteps(1000, 4, 0.5) == [499, 249]
    assert sampling_timesteps(10, 10) == list(range(9, -1, -1))
