"""Sampling of images from noise that is fixed beforehand.

A sampler is a deterministic map from *exogenous noise* (the starting image and, for a stochastic
sampler, one tensor per step) to an image. So two models, or one ensemble with and without some
members, can generate images from the same noise: these differ by the members alone.
"""

from collections.abc import Callable
from functools import reduce
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.schedulers import SCHEDULERS
from begat.diffusion.schedules import Schedule

Predict = Callable[[Float[Tensor, "batch channel y x"], int], Float[Tensor, "batch channel y x"]]


def sampling_timesteps(
    num_train_timesteps: int, num_inference_steps: int, strength: float = 1.0
) -> list[int]:
    """Returns timesteps from high noise to low, the last of each of so many equal stretches.

    The first is the last training timestep ("trailing" spacing, arXiv 2305.08891), so that a
    sample starts from the noise level that the network was trained on. With ``strength`` below 1
    only the timesteps within that share of the process.
    """
    every = num_train_timesteps / num_inference_steps
    times = [round(num_train_timesteps - i * every) - 1 for i in range(num_inference_steps)]
    return [t for t in times if t < strength * num_train_timesteps]


def noise_tensor_count(scheduler: str, times: list[int]) -> int:
    """Returns the noise tensors of one image: the start, and one per stochastic update."""
    return len(times) if SCHEDULERS[scheduler].stochastic else 1


def clean_image(
    x: Tensor, noise: Tensor, alpha_bar: float, clip_sample: bool
) -> tuple[Tensor, Tensor]:
    """Returns the clean image that ``noise`` implies, and the noise that this image implies.

    The second differs from ``noise`` only where the image is clipped.
    """
    image = (x - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5
    if not clip_sample:
        return image, noise
    image = image.clamp(-1, 1)
    return image, (x - alpha_bar**0.5 * image) / (1 - alpha_bar) ** 0.5


def sample(
    predict: Predict,
    noise: Float[Tensor, "batch step channel y x"],
    schedule: Schedule,
    times: list[int],
    scheduler: str,
    clip_sample: bool,
) -> Float[Tensor, "batch channel y x"]:
    """Returns images in -1..1, generated from ``noise``.

    Args:
        predict: the noise in a batch of images at one timestep.
        noise: ``noise_tensor_count`` tensors per image: the start, then those of the updates.
        schedule: the forward process.
        times: falling timesteps, from ``sampling_timesteps``.
        scheduler: a name in ``SCHEDULERS``.
        clip_sample: clip the predicted clean image to -1..1 at every step.
    """
    levels = [*(float(schedule.alpha_bar[t]) for t in times), 1.0]
    x = noise[:, 0]
    for step, (t, (alpha_bar, following)) in enumerate(zip(times, pairwise(levels), strict=True)):
        weights = SCHEDULERS[scheduler].weights(alpha_bar, following)
        image, implied = clean_image(x, predict(x, t), alpha_bar, clip_sample)
        fresh = noise[:, step + 1] if weights.fresh else x  # the last update has none
        terms = zip(weights, (image, implied, x, fresh), strict=True)
        x = reduce(torch.add, (weight * tensor for weight, tensor in terms if weight))
    return x.clamp(-1, 1)
