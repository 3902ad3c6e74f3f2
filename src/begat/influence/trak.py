"""Scores of the TRAK family (TRAK, D-TRAK, DAS): gradient products times their inverse kernel."""

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.errors import BegatError
from begat.influence.gradient_source import GradientSource, ImageSet
from begat.influence.gradients import image_gradients, image_losses
from begat.influence.layers import row_width
from begat.influence.projections import Projection
from begat.influence.trak_kernels import das, weights

MAX_BUFFERED_ELEMENTS = 2**26  # elements of gradients projected at a time: 256 MiB of float32
Method = Literal["trak", "dtrak", "das"]
METHODS: tuple[Method, ...] = get_args(Method)
MEASUREMENTS = {  # differentiated for images, and for queries
    "trak": ("training", "noise"),
    "dtrak": ("square", "square"),
    "das": ("mean", "mean"),
}


def score(
    source: GradientSource,
    images: ImageSet,
    queries: ImageSet,
    method: Method,
    dampings: Sequence[float],
    *,
    seed: int,
    projection_dim: int | None = None,
    share: float = 1.0,
) -> Float[np.ndarray, "damping query image"]:
    """Returns ``score[damping, query, image]``; signs as in ``influence.trak_kernels``.

    Without a projection the kernel is exact and all images' gradients are in memory at once (1,797
    images by 40 thousand parameters: 300 MB; see ``require_memory``); with one, ``projection_dim``
    numbers per image. Queries have the draws of ``source``, without mirroring; the published
    methods use the same timesteps for images and queries.

    Args:
        source, images, queries: the network, what it was trained on, and the query images.
        method: see ``influence.trak_kernels``.
        dampings: multiples of the kernel's mean eigenvalue.
        seed: the root seed of the projection.
        projection_dim: of the projected gradients; None for no projection.
        share: the share of the images of all those that are scored; weights are scaled to the
            whole, so that models trained on more or fewer images can be averaged.

    Raises:
        BegatError: a gradient is not finite, or the projection is wider than the gradient.
    """
    projection, unit = None, method == "das"
    if projection_dim is not None:
        projection = Projection(seed, "scores_trak", row_width(source.layers), projection_dim)
    image_measurement, query_measurement = MEASUREMENTS[method]
    scores = share * weights(
        _features(source, images, image_measurement, projection, unit_length=unit),
        _features(source.unmirrored, queries, query_measurement, projection, unit_length=unit),
        dampings,
    )
    return das(scores, image_losses(source, images).numpy()) if unit else scores


def require_memory(source: GradientSource, images: int, projection_dim: int, memory: int) -> None:
    """Raise BegatError where the gradients of all images in ``score`` do not fit into memory.

    Args:
        source: as in ``score``.
        images: their number.
        projection_dim: of the projected gradients; 0 for no projection.
        memory: that of the machine, in bytes.
    """
    width = row_width(source.layers)
    column = source.denoiser.like.element_size() * images
    required = column * (projection_dim or width)
    if required > memory:
        raise BegatError(
            f"projected gradients: expected at most {memory // column} dimensions for each of "
            f"{images} images, as all are in {memory / 2**30:.1f} GiB of memory at once, found "
            f"{projection_dim or f'0, all {width}'} ({required / 2**30:.1f} GiB)"
        )


def _features(
    source: GradientSource,
    images: ImageSet,
    measurement: str,
    projection: Projection | None,
    *,
    unit_length: bool,
) -> Float[np.ndarray, "image feature"]:
    """Returns every image's mean gradient, projected; see ``_mean_rows``."""
    gradient_width = row_width(source.layers)
    width = projection.width if projection else gradient_width
    features = torch.empty(len(images), width, dtype=source.denoiser.like.dtype)
    buffer: list[Tensor] = []
    max_rows = min(source.max_examples, MAX_BUFFERED_ELEMENTS // gradient_width)
    for span, rows in _mean_rows(source, images, measurement, unit_length=unit_length):
        buffer.append(rows)
        last = span.stop == len(images)
        if projection is None or sum(map(len, buffer)) >= max_rows or last:
            block = torch.cat(buffer)
            block_span = slice(span.stop - len(block), span.stop)
            features[block_span] = projection(block) if projection else block
            buffer = []
    return features.numpy()


def _mean_rows(
    source: GradientSource, images: ImageSet, measurement: str, *, unit_length: bool
) -> Iterator[tuple[slice, Float[Tensor, "image parameter"]]]:
    """Yields blocks of images with their mean gradients over draws.

    With ``unit_length`` the gradient of each draw is scaled to length 1 first (DAS).
    """
    parts = source.draws_per_image(images) if unit_length else 1
    for span, (rows,) in image_gradients(source, images, (measurement,), parts=parts):
        if unit_length:
            rows = torch.nn.functional.normalize(rows, dim=2)
        yield span, rows.mean(0)
