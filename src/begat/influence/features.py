"""Similarity of images in a feature space: of the denoiser itself, or of a vision network."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.denoisers import Denoiser, evaluate
from begat.diffusion.draws import DrawSampler
from begat.errors import BegatError
from begat.evaluation.distances import cosine_to_all
from begat.influence.blocks import image_slices
from begat.influence.gradient_source import ImageSet

METHODS = ("features_cosine",)
BATCH_SIZE = 256  # images per network call; a matter of speed and rounding only
Features = Float[np.ndarray, "image feature"]


def similarity(
    queries: Float[np.ndarray, "query feature"], images: Features
) -> Float[np.ndarray, "method query image"]:
    """Returns the cosine between features less the training images' mean, which all share."""
    mean = images.mean(0)
    return cosine_to_all(queries - mean, images - mean)[None]


@torch.no_grad()
def denoiser_features(denoiser: Denoiser, images: ImageSet, draws: DrawSampler) -> Features:
    """Returns each image's output of the denoiser's middle block, mean over draws and positions.

    Raises:
        BegatError: the network has no middle block.
    """
    middle = getattr(denoiser.module, "mid_block", None)
    if not isinstance(middle, torch.nn.Module):
        raise BegatError("features: the denoiser has no mid_block; use a vision network")
    outputs: list[Tensor] = []
    handle = middle.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    features = []
    try:
        for span in image_slices(images, draws(images.ids[:1]).count):
            block = draws(images.ids[span])
            evaluate(denoiser, images.images(span), images.labels(span), block)
            by_draw = outputs.pop().flatten(2).mean(2).unflatten(0, (-1, block.count))
            features.append(by_draw.mean(1).cpu())
    finally:
        handle.remove()
    return torch.cat(features).numpy()


@torch.no_grad()
def vision_features(
    network: Callable[[Tensor], Tensor], images: ImageSet, device: torch.device
) -> Features:
    """Returns each image's output of a network that takes RGB images in -1..1.

    Raises:
        BegatError: it does not return one row of numbers per image.
    """
    features = []
    for start in range(0, len(images), BATCH_SIZE):
        image = images.images(slice(start, start + BATCH_SIZE)).to(device)
        rows = network(image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image)
        if not isinstance(rows, Tensor) or len(rows) != len(image):
            raise BegatError("features: expected one row per image from the vision network")
        features.append(rows.flatten(1).float().cpu())
    return torch.cat(features).numpy()
