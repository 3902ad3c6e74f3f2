"""Samplers by diffusers' scheduler names: the update of a sample from one timestep to the next.

Every update is a weighted sum of four tensors: the clean image and the noise that the network's
prediction implies, the sample x_t itself, and fresh noise. A sampler is the four weights as a
function of alpha_bar at both timesteps; for respaced timesteps alpha is the ratio of the two. To
add one, add an entry to ``SCHEDULERS`` and its reference to ``tests/test_sampling.py``.

This module imports no torch, so that parameter files are checked without it.

diffusers' ``DDIMScheduler`` gives both updates (eta 0; eta 1 with ``variance_noise`` and
``use_clipped_model_output``) and is the reference in the tests. It is not used here:

- Its import adds 2.2 s of CPU time to the 1.9 s in which a job starts (diffusers 0.42).
- Its alpha_bar is in float32 and its noise levels are one timestep off where the number of steps
  does not divide the timesteps (it takes t - T // n for the next one). With 25 or 50 of 1,000 steps
  images in -1..1 differ by up to 9e-6, with 4 ancestral ones by 2e-4, with 30 or 300 by .003 to 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class UpdateWeights(NamedTuple):
    """Weights of the sum that is the sample at the next, lower noise level."""

    image: float = 0.0  # the predicted clean image, clipped if so required
    noise: float = 0.0  # the noise that x_t and that image imply
    sample: float = 0.0  # x_t
    fresh: float = 0.0  # standard normal noise


@dataclass(frozen=True)
class Scheduler:
    """A sampler.

    Attributes:
        weights: of the update, given alpha_bar at this timestep and at the next (1 after the last).
        stochastic: whether every update but the last takes fresh noise.
    """

    weights: Callable[[float, float], UpdateWeights]
    stochastic: bool


def ddim(alpha_bar: float, next_alpha_bar: float) -> UpdateWeights:
    """Returns the weights of Song et al. (arXiv 2010.02502), eq. 12 with eta = 0."""
    return UpdateWeights(image=next_alpha_bar**0.5, noise=(1 - next_alpha_bar) ** 0.5)


def ddpm(alpha_bar: float, next_alpha_bar: float) -> UpdateWeights:
    """Returns the weights of Ho et al. (arXiv 2006.11239), eq. 7: ancestral sampling.

    Of their two variances the smaller one, beta tilde.
    """
    alpha = alpha_bar / next_alpha_bar
    return UpdateWeights(
        image=next_alpha_bar**0.5 * (1 - alpha) / (1 - alpha_bar),
        sample=alpha**0.5 * (1 - next_alpha_bar) / (1 - alpha_bar),
        fresh=((1 - next_alpha_bar) / (1 - alpha_bar) * (1 - alpha)) ** 0.5,
    )


SCHEDULERS = {
    "ddim": Scheduler(ddim, stochastic=False),
    "ddpm": Scheduler(ddpm, stochastic=True),
}
