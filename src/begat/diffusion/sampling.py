"""Drawing images from noise that was fixed beforehand.

A sampler is a deterministic map from *exogenous noise* (the starting image and, for DDPM, one
tensor per step) to an image. Two models, or one ensemble with and without some members, can so be
asked for the same image: what differs is their membership only.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.schedules import Schedule

Sampler = Literal["ddpm", "ddim"]
Predict = Callable[[Float[Tensor, "batch channel y x"], int], Float[Tensor, "batch channel y x"]]


def sampling_timesteps(timesteps: int, steps: int, strength: float = 1.0) -> list[int]:
    """``steps`` timesteps from high noise to low, ending each of ``steps`` equal stretches.

    The first is the last training timestep ("trailing" spacing, arXiv 2305.08891), so that a
    sample starts from the noise level it was trained on. ``strength`` below 1 keeps only the
    timesteps up to that share of the process.
    """
    every = timesteps / steps
    times = [round(timesteps - i * every) - 1 for i in range(steps)]
    return [t for t in times if t < strength * timesteps]


def noise_tensors(sampler: Sampler, times: list[int]) -> int:
    """How many noise tensors a draw consumes: the start, and for DDPM all steps but the last."""
    return len(times) if sampler == "ddpm" else 1


def _clean(x: Tensor, noise: Tensor, alpha_bar: float, clip: bool) -> tuple[Tensor, Tensor]:
    """The clean image that ``noise`` implies, and the noise that the (clipped) image implies."""
    image = (x - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5
    if not clip:
        return image, noise
    image = image.clamp(-1, 1)
    return image, (x - alpha_bar**0.5 * image) / (1 - alpha_bar) ** 0.5


def ddim_step(x: Tensor, noise: Tensor, now: float, then: float, clip: bool) -> Tensor:
    """Song et al. (arXiv 2010.02502), eq. 12 with eta = 0; ``now``, ``then``: alpha_bar."""
    image, noise = _clean(x, noise, now, clip)
    return then**0.5 * image + (1 - then) ** 0.5 * noise


def ddpm_step(
    x: Tensor, noise: Tensor, now: float, then: float, clip: bool, fresh: Tensor | None
) -> Tensor:
    """Ho et al. (arXiv 2006.11239), eq. 7, with the smaller of its two variances (beta tilde).

    For respaced timesteps alpha is the ratio of the two alpha_bar. ``fresh`` is None at the end.
    """
    image, _ = _clean(x, noise, now, clip)
    alpha = now / then
    mean = then**0.5 * (1 - alpha) / (1 - now) * image + alpha**0.5 * (1 - then) / (1 - now) * x
    if fresh is None:
        return mean
    return mean + ((1 - then) / (1 - now) * (1 - alpha)) ** 0.5 * fresh


def sample(
    predict: Predict,
    noise: Float[Tensor, "batch step channel y x"],
    schedule: Schedule,
    times: list[int],
    sampler: Sampler,
    clip: bool,
) -> Float[Tensor, "batch channel y x"]:
    """Images drawn from ``noise``: its first tensor is where to start, the rest serves the steps.

    Args:
        predict: the noise in a batch of images at one timestep.
        noise: as many tensors per image as ``noise_tensors`` says.
        schedule: the forward process.
        times: falling timesteps, from ``sampling_timesteps``.
        sampler: ``ddpm`` (ancestral) or ``ddim`` (deterministic).
        clip: keep the implied clean image within the image range at every step.

    Returns:
        Images within [-1, 1].
    """
    x = noise[:, 0]
    for i, t in enumerate(times):
        now = float(schedule.alpha_bar[t])
        last = i == len(times) - 1
        then = 1.0 if last else float(schedule.alpha_bar[times[i + 1]])
        predicted = predict(x, t)
        if sampler == "ddim":
            x = ddim_step(x, predicted, now, then, clip)
        else:
            x = ddpm_step(x, predicted, now, then, clip, None if last else noise[:, i + 1])
    return torch.clamp(x, -1, 1)
