"""Samplers against those of diffusers, step by step, from the same noise."""

import dataclasses

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from small import ROOT

from begat.config.load import load
from begat.diffusion.sampling import noise_tensor_count, sample, sampling_timesteps
from begat.diffusion.schedulers import SCHEDULERS
from begat.diffusion.schedules import cosine_schedule
from begat.errors import BegatError
from begat.stages import PARAMS, queries

pytestmark = pytest.mark.numerics

STEPS, SHAPE = 8, (1, 4, 4)
REFERENCES = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler}


def network(x, t):
    """Any deterministic function of image and timestep."""
    return torch.tanh(0.7 * x + t / 500 - 1)


def exogenous_noise(scheduler, times):
    return torch.randn(3, noise_tensor_count(scheduler, times), *SHAPE, dtype=torch.float64)


def reference_scheduler(kind, clip):
    """A scheduler of diffusers with alpha_bar in float64."""
    scheduler = kind(
        1000, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing", clip_sample=clip
    )
    scheduler.alphas_cumprod = cosine_schedule(1000).alpha_bar.clone()
    scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(STEPS)
    return scheduler


def assert_same_images(ours, theirs):
    torch.testing.assert_close(ours, theirs.clamp(-1, 1), rtol=1e-6, atol=1e-7)


def test_every_sampler_has_its_reference():
    assert REFERENCES.keys() == SCHEDULERS.keys()


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_samples_are_those_of_diffusers(name, clip, monkeypatch):
    times = sampling_timesteps(1000, STEPS)
    noise = exogenous_noise(name, times)
    reference = reference_scheduler(REFERENCES[name], clip)
    assert reference.timesteps.tolist() == times
    fresh = iter([*noise[:, 1:].unbind(1), torch.zeros_like(noise[:, 0])])  # the last is unused
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: next(fresh)
    )
    options = dict(use_clipped_model_output=True) if name == "ddim" else {}
    x = noise[:, 0]
    for t in times:
        x = reference.step(network(x, t), t, x, **options).prev_sample
    assert_same_images(sample(network, noise, cosine_schedule(1000), times, name, clip), x)


@pytest.mark.parametrize("clip", [True, False])
def test_ancestral_samples_are_those_of_ddim_with_eta_1(clip):
    times = sampling_timesteps(1000, STEPS)
    noise = exogenous_noise("ddpm", times)
    reference, x = reference_scheduler(DDIMScheduler, clip), noise[:, 0]
    for t, fresh in zip(times, [*noise[:, 1:].unbind(1), torch.zeros_like(x)], strict=True):
        options = dict(eta=1.0, use_clipped_model_output=True, variance_noise=fresh)
        x = reference.step(network(x, t), t, x, **options).prev_sample
    assert_same_images(sample(network, noise, cosine_schedule(1000), times, "ddpm", clip), x)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_sampler_takes_fresh_noise_if_it_is_stochastic_and_none_at_the_end(name):
    scheduler = SCHEDULERS[name]
    assert (scheduler.weights(0.2, 0.7).fresh > 0) == scheduler.stochastic
    assert scheduler.weights(0.7, 1.0).fresh == 0


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_perfect_network_generates_the_image_it_knows(name):
    image = torch.rand(2, *SHAPE, dtype=torch.float64) * 1.8 - 0.9
    schedule, times = cosine_schedule(1000), sampling_timesteps(1000, 20)

    def perfect(x, t):
        return (x - schedule.alpha_bar[t].sqrt() * image) / (1 - schedule.alpha_bar[t]).sqrt()

    generated = sample(perfect, exogenous_noise(name, times)[:2], schedule, times, name, True)
    torch.testing.assert_close(generated, image)


def test_timesteps_end_equal_stretches_and_strength_keeps_the_lower_ones():
    assert sampling_timesteps(1000, 4) == [999, 749, 499, 249]
    assert sampling_timesteps(1000, 4, 0.5) == [499, 249]
    assert sampling_timesteps(10, 10) == list(range(9, -1, -1))


def test_a_sampler_is_known_by_its_entry_in_the_table_alone(monkeypatch):
    params = load(ROOT, "params/tiny.yaml", PARAMS)
    euler = dataclasses.replace(params.queries, scheduler="euler")
    with pytest.raises(
        BegatError, match="queries.scheduler: expected one of ddim, ddpm, found eul"
    ):
        queries.check(dataclasses.replace(params, queries=euler))
    monkeypatch.setitem(SCHEDULERS, "euler", SCHEDULERS["ddim"])
    queries.check(dataclasses.replace(params, queries=euler))
    assert noise_tensor_count("euler", [9, 4]) == 1
