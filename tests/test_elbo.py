"""ELBO weights against the divergence of two Gaussians written out."""

import numpy as np
import pytest
import torch

from begat.diffusion.draws import shared_draws
from begat.diffusion.elbo import elbo_weights, nats, weight_profile
from begat.diffusion.schedules import Schedule, cosine_schedule, linear_schedule

pytestmark = pytest.mark.numerics

LINEAR = linear_schedule(1000)


def gaussian_divergence(mean_a, mean_b, variance):
    """KL of two Gaussians with one diagonal variance."""
    return float(((mean_a - mean_b) ** 2).sum() / (2 * variance))


def posterior_mean(schedule, t, clean, noisy):
    """Mean of x_{t-1} given x_t and x_0 (Ho et al., eq. 7)."""
    now, before = schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
    alpha = now / before
    return (
        before.sqrt() * (1 - alpha) / (1 - now) * clean
        + alpha.sqrt() * (1 - before) / (1 - now) * noisy
    )


@pytest.mark.parametrize("schedule", [LINEAR, cosine_schedule(200)], ids=["linear", "cosine"])
@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_weights_are_those_of_an_explicit_gaussian_divergence(schedule, variance):
    generator = torch.Generator().manual_seed(0)
    clean, noise, predicted = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    weights = elbo_weights(schedule, variance)
    for t in (1, 2, 50, schedule.timesteps - 2):
        now, before = schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
        noisy = now.sqrt() * clean + (1 - now).sqrt() * noise
        guess = (noisy - (1 - now).sqrt() * predicted) / now.sqrt()
        beta = 1 - now / before
        expected = gaussian_divergence(
            posterior_mean(schedule, t, clean, noisy),
            posterior_mean(schedule, t, guess, noisy),
            beta * (1 - before) / (1 - now) if variance == "posterior" else beta,
        )
        term = float(weights[t] * ((noise - predicted) ** 2).sum())
        assert term == pytest.approx(expected, rel=1e-11)


def test_weights_are_half_the_loss_of_signal_to_noise_ratio():
    weights = elbo_weights(LINEAR)[1:]
    ratio = LINEAR.alpha_bar / (1 - LINEAR.alpha_bar)
    torch.testing.assert_close(
        weights * ratio[1:], (ratio[:-1] - ratio[1:]) / 2, rtol=1e-10, atol=0
    )


def test_the_decoder_term_is_left_out_and_the_clipped_step_explicit():
    schedule = cosine_schedule(1000)
    kept, capped, without = (elbo_weights(schedule, clipped=c) for c in ("keep", "cap", "exclude"))
    assert kept[0] == capped[0] == without[0] == 0
    assert kept[-1] == pytest.approx(499.5, rel=1e-3)
    assert kept[-1] / kept.sum() > 0.95
    assert without[-1] == 0
    assert capped[-1] == capped[-2] == kept[-2]
    torch.testing.assert_close(kept[:-1], without[:-1])
    torch.testing.assert_close(elbo_weights(LINEAR), elbo_weights(LINEAR, clipped="keep"))


def test_losses_at_every_timestep_once_add_up_to_the_sum_in_nats():
    weights = elbo_weights(LINEAR).numpy()
    loss = np.random.default_rng(0).random((3, 2, 1000)).astype(np.float32)
    timestep = np.tile(np.arange(1000), (2, 1))
    estimate = nats(loss, weights, timestep, 48).mean(-1)
    expected = 48 * (loss.astype(np.float64) * weights).sum(-1)
    np.testing.assert_allclose(estimate, expected, rtol=1e-12)


def test_shared_draws_estimate_the_elbo_without_bias():
    weights = elbo_weights(Schedule(LINEAR.alpha_bar[200:])).numpy()
    curve = np.linspace(1, 0.1, 800)
    estimates = []
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        t = shared_draws(generator, 16, 800, (1, 1, 1))[0].numpy()[None]
        estimates.append(nats(curve[t], weights, t, 1).mean())
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - (weights * curve).sum()) < 4 * error


def test_the_profile_says_where_the_weight_lies():
    weights = elbo_weights(LINEAR).numpy()
    profile = weight_profile(weights, 100)
    assert profile.sum() == pytest.approx(1)
    assert profile[0] == pytest.approx(0.19, abs=0.01)
    assert profile[:10].sum() == pytest.approx(0.39, abs=0.01)
