"""Similarity in the eyes of a network: of the full model itself, or of any that sees images."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.denoisers import Denoiser, answer
from begat.diffusion.image_draws import DrawsOf
from begat.errors import BegatError
from begat.evaluation.distances import cosine_to_all
from begat.evaluation.measures import COSINE
from begat.influence.blocks import blocks_of
from begat.influence.gradients import Sample

METHODS = {"features_cosine": COSINE}
BATCH = 256  # images per network call; a matter of speed and rounding only
Features = Float[np.ndarray, "image feature"]


def similarity(
    queries: Float[np.ndarray, "query feature"], images: Features
) -> Float[np.ndarray, "method query image"]:
    """The cosine between features, less the training images' mean: what they have in common."""
    mean = images.mean(0)
    return cosine_to_all(queries - mean, images - mean)[None]


@torch.no_grad()
def own_features(denoiser: Denoiser, sample: Sample, draws: DrawsOf) -> Features:
    """What the denoiser's own middle block makes of each image, mean over draws and positions.

    Raises:
        BegatError: the network has no middle block.
    """
    middle = getattr(denoiser.module, "mid_block", None)
    if not isinstance(middle, torch.nn.Module):
        raise BegatError("scores_features.network: the full model has no mid_block; name another")
    seen: list[Tensor] = []
    handle = middle.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    found = []
    try:
        for some in blocks_of(sample, draws(sample.number[:1]).number):
            dealt = draws(sample.number[some])
            answer(denoiser, sample.images(some), sample.labels(some), dealt)
            of_draws = seen.pop().flatten(2).mean(2).unflatten(0, (-1, dealt.number))
            found.append(of_draws.mean(1).cpu())
    finally:
        handle.remove()
    return torch.cat(found).numpy()


@torch.no_grad()
def foreign_features(
    network: Callable[[Tensor], Tensor], sample: Sample, device: torch.device
) -> Features:
    """What a network that takes RGB images in -1..1 makes of each image.

    Raises:
        BegatError: it does not return one row of numbers per image.
    """
    found = []
    for start in range(0, len(sample), BATCH):
        image = sample.images(slice(start, start + BATCH)).to(device)
        rows = network(image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image)
        if not isinstance(rows, Tensor) or len(rows) != len(image):
            raise BegatError("scores_features.network: expected one row of features per image")
        found.append(rows.flatten(1).float().cpu())
    return torch.cat(found).numpy()
