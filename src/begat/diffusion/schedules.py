"""Forward process: noise schedules, noisy images, prediction types.

Symbols as in Ho et al. (arXiv 2006.11239), timesteps counted from 0 as in diffusers:
``alpha_bar[t] = prod_{s<=t} (1 - beta[s])`` and
``x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise``.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class Schedule:
    """A noise schedule; ``alpha_bar`` is in float64 and falls from nearly 1 to nearly 0."""

    alpha_bar: Float[Tensor, " timestep"]

    @property
    def timesteps(self) -> int:
        """Returns the number of timesteps of the forward process."""
        return len(self.alpha_bar)

    def scales(
        self, t: Int[Tensor, "*batch"], like: Tensor
    ) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """Returns ``sqrt(alpha_bar)``, ``sqrt(1 - alpha_bar)`` at ``t``, to multiply ``like``."""
        alpha_bar = self.alpha_bar[t.cpu()].reshape(*t.shape, *[1] * (like.ndim - t.ndim))
        signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        return signal.to(like), noise.to(like)


def linear_schedule(timesteps: int) -> Schedule:
    """Returns beta from 1e-4 to 0.02 in equal steps (Ho et al., section 4)."""
    beta = torch.linspace(1e-4, 0.02, timesteps, dtype=torch.float64)
    return Schedule((1 - beta).cumprod(0))


def cosine_schedule(timesteps: int) -> Schedule:
    """Returns alpha_bar as a squared cosine, beta clipped at 0.999 (arXiv 2102.09672, eq. 17)."""
    edge = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    level = ((edge + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    beta = (1 - level[1:] / level[:-1]).clamp(max=0.999)
    return Schedule((1 - beta).cumprod(0))


SCHEDULES = {"linear": linear_schedule, "squaredcos_cap_v2": cosine_schedule}  # by diffusers' names


def diffuse(
    schedule: Schedule,
    image: Float[Tensor, "*batch channel y x"],
    t: Int[Tensor, "*batch"],
    noise: Float[Tensor, "*batch channel y x"],
) -> Float[Tensor, "*batch channel y x"]:
    """Returns the noisy image x_t."""
    signal, sigma = schedule.scales(t, image)
    return signal * image + sigma * noise


def training_target(
    schedule: Schedule,
    prediction: Prediction,
    image: Float[Tensor, "*batch channel y x"],
    t: Int[Tensor, "*batch"],
    noise: Float[Tensor, "*batch channel y x"],
) -> Float[Tensor, "*batch channel y x"]:
    """Returns the target of the output: the noise, or v = sqrt(ab) noise - sqrt(1-ab) x_0.

    v as in Salimans & Ho, arXiv 2202.00512, appendix D; ab is alpha_bar.
    """
    if prediction == "epsilon":
        return noise
    signal, sigma = schedule.scales(t, image)
    return signal * noise - sigma * image


def predicted_noise(
    schedule: Schedule,
    prediction: Prediction,
    output: Float[Tensor, "*batch channel y x"],
    noisy: Float[Tensor, "*batch channel y x"],
    t: Int[Tensor, "*batch"],
) -> Float[Tensor, "*batch channel y x"]:
    """Returns the noise that a network's output implies, whatever its prediction type.

    All measurements are taken in noise space, so that both kinds of model are measured alike and
    an ensemble's loss stays quadratic in its weights.
    """
    if prediction == "epsilon":
        return output
    signal, sigma = schedule.scales(t, noisy)
    return signal * output + sigma * noisy
