"""Losses of queries under models, on draws of (timestep, noise) that all models share."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from begat.diffusion.draws import stratified_draws
from begat.diffusion.noise_predictors import BATCH, NoisePredictor
from begat.diffusion.schedules import diffuse
from begat.rng.torch_generators import torch_generator


def measure(
    predictor: NoisePredictor,
    pixels: Float[np.ndarray, "query channel y x"],
    label: Int[np.ndarray, " query"],
    queries: Sequence[int],
    *,
    seed: int,
    draws: int,
    gram: bool,
) -> dict[str, np.ndarray]:
    """Returns losses ``[model, query, draw]``, and with ``gram`` the models' Gram matrices.

    The loss of a draw is the squared error of the predicted noise, mean over pixels. A draw is a
    function of (root seed, query, number): with the same timesteps and noises for all models, their
    differences carry none of the draws' own variance. ``gram[query, i, j]`` is the mean over
    draws and pixels of model i's error times model j's: it gives the loss of every average of the
    models exactly (``ensembles.ablation``).

    Returns:
        The arrays of the ``measurements`` schema.
    """
    images, models = torch.from_numpy(pixels).to(predictor.dtype), predictor.models
    loss = np.zeros((models, len(images), draws), images.numpy().dtype)
    timestep = np.zeros((len(images), draws), np.int32)
    grams = np.zeros((len(images), models, models))
    shape = (images.shape[1], images.shape[2], images.shape[3])
    block_size = max(1, BATCH // draws)
    for start in range(0, len(images), block_size):
        block = slice(start, start + block_size)
        generators = (torch_generator(seed, "measurements", query) for query in queries[block])
        t, noise = stratified_draws(generators, draws, predictor.schedule.timesteps, shape)
        t, noise = t.flatten(), noise.flatten(0, 1).to(images)
        noisy = diffuse(predictor.schedule, images[block].repeat_interleave(draws, 0), t, noise)
        classes = None
        if predictor.config.classes:
            classes = torch.from_numpy(label[block]).long().repeat_interleave(draws)
        error = torch.stack(
            [predictor.predict(m, noisy, t, classes) - noise for m in range(models)]
        ).unflatten(1, (-1, draws))
        loss[:, block] = error.square().mean((3, 4, 5)).numpy()
        timestep[block] = t.view(-1, draws).numpy()
        if gram:
            flat = error.transpose(0, 1).flatten(2).double()
            grams[block] = (flat @ flat.transpose(1, 2) / flat.shape[2]).numpy()
    arrays = {"loss": loss, "timestep": timestep}
    return {**arrays, "gram": grams} if gram else arrays
