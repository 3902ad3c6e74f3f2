"""The images asked about: drawn from stored noise, or a person's own."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from begat.diffusion.noise_predictors import Predictor
from begat.diffusion.sampling import Sampler, noise_tensors, sample, sampling_timesteps
from begat.rng.torch_generators import torch_generator


def exogenous_noise(
    seed: int, queries: Sequence[int], tensors: int, shape: tuple[int, int, int]
) -> Float[Tensor, "query step channel y x"]:
    """The noise each query is drawn from; a query's own, however many others there are."""
    return torch.stack(
        [
            torch.randn(tensors, *shape, generator=torch_generator(seed, "queries", query))
            for query in queries
        ]
    )


def draw(
    predictor: Predictor,
    queries: Sequence[int],
    *,
    seed: int,
    sampler: Sampler,
    steps: int,
    clip: bool,
) -> dict[str, np.ndarray]:
    """Queries drawn by the mean of the predictor's models (one model: by that one).

    A conditional model draws its classes in turn.

    Returns:
        Of the ``queries`` schema ``pixels``, ``noise`` and ``label``.
    """
    config = predictor.config
    shape = (config.image_channels, config.sample_size, config.sample_size)
    times = sampling_timesteps(predictor.schedule.timesteps, steps)
    noise = exogenous_noise(seed, queries, noise_tensors(sampler, times), shape)
    noise = noise.to(predictor.dtype)
    label = torch.tensor([q % config.classes if config.classes else -1 for q in queries])
    everyone = torch.ones(len(queries), predictor.models, dtype=torch.bool)

    def predict(x: Tensor, t: int) -> Tensor:
        return predictor.mean_noise(x, t, label if config.classes else None, everyone)

    pixels = sample(predict, noise, predictor.schedule, times, sampler, clip)
    return {"pixels": pixels.numpy(), "noise": noise.numpy(), "label": label.numpy()}


def own(
    pixels: UInt8[np.ndarray, "query channel y x"],
    label: Int[np.ndarray, " query"],
    queries: Sequence[int],
    *,
    seed: int,
    timesteps: int,
    sampler: Sampler,
    steps: int,
) -> dict[str, np.ndarray]:
    """A person's images as queries, with noise to redraw them from.

    Returns:
        Of the ``queries`` schema ``pixels``, ``noise`` and ``label``; their counterfactuals start
        from ``noise``.
    """
    shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    tensors = noise_tensors(sampler, sampling_timesteps(timesteps, steps))
    return {
        "pixels": pixels.astype(np.float32) / 127.5 - 1,
        "noise": exogenous_noise(seed, queries, tensors, shape).numpy(),
        "label": label,
    }
