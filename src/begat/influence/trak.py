"""Scores of the TRAK family: gradients against gradients, made independent by their own kernel."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from begat.diffusion.denoisers import Denoiser
from begat.diffusion.image_draws import DrawsOf, unmirrored
from begat.errors import BegatError
from begat.evaluation.measures import KERNEL_WEIGHT, UNSIGNED_KERNEL_WEIGHT, WEIGHTED_LOSS, Measure
from begat.influence.blocks import MAX_EXAMPLES
from begat.influence.gradients import Sample, image_gradients, image_losses
from begat.influence.layers import Layer, covered_layers, width
from begat.influence.projections import Projection
from begat.influence.trak_kernels import das, weights

MAX_WAITING_NUMBERS = 2**26  # numbers of gradients projected at a time: 256 MiB of float32
Method = Literal["trak", "dtrak", "das"]
METHODS: dict[Method, Measure] = {  # see influence.trak_kernels
    "trak": KERNEL_WEIGHT,
    "dtrak": UNSIGNED_KERNEL_WEIGHT,
    "das": WEIGHTED_LOSS,
}
# what is differentiated on the images' side and on the queries'
FUNCTIONS = {"trak": ("training", "noise"), "dtrak": ("square", "square"), "das": ("mean", "mean")}


def score(
    denoiser: Denoiser,
    images: Sample,
    queries: Sample,
    draws: DrawsOf,
    method: Method,
    dampings: Sequence[float],
    *,
    seed: int,
    projection: int | None = None,
    norms: bool = False,
    share: float = 1.0,
    examples: int = MAX_EXAMPLES,
) -> Float[np.ndarray, "variant query image"]:
    """``score[variant, query, image]``, a variant for each damping.

    Signs as in ``influence.trak_kernels``. Without a projection the kernel is exact and all images'
    gradients are held in memory at once (1,797 images by 40 thousand parameters: 300 MB; see
    ``require_memory``); with one, ``projection`` numbers per image.

    Args:
        denoiser: the network.
        images: what it was trained on.
        queries: the images asked about.
        draws: of images and queries alike, the latter without mirroring; the published methods use
            the same timesteps.
        method: see ``influence.trak_kernels``.
        dampings: multiples of the kernel's mean eigenvalue.
        seed: the root seed of the projection.
        projection: numbers to keep of each gradient, None for all.
        norms: differentiate in normalisation layers too.
        share: these images' share of all those in question; weights are brought to the size of the
            whole, so that models trained on more or fewer images can be averaged.
        examples: noisy images per network call, at most; for speed only.

    Raises:
        BegatError: a gradient is not finite, or the projection is wider than the gradient.
    """
    layers = covered_layers(denoiser.module, norms=norms)
    project = None
    if projection is not None:
        project = Projection(seed, "scores_trak", width(layers), projection)

    def features(
        sample: Sample, dealt: DrawsOf, function: str
    ) -> Float[np.ndarray, "image feature"]:
        return _features(denoiser, layers, sample, dealt, method, function, project, examples)

    of_images, of_queries = FUNCTIONS[method]
    found = share * weights(
        features(images, draws, of_images),
        features(queries, unmirrored(draws), of_queries),
        dampings,
    )
    if method == "das":
        found = das(found, image_losses(denoiser, images, draws, examples=examples).numpy())
    return found


def require_memory(
    denoiser: Denoiser, images: int, projection: int, memory: int, *, norms: bool = False
) -> None:
    """Nothing, where what ``score`` holds of all images' gradients fits into memory.

    Args:
        denoiser: the network.
        images: how many images are scored.
        projection: numbers to keep of each gradient, 0 for all.
        memory: that of the machine, in bytes.
        norms: as in ``score``.

    Raises:
        BegatError: it does not fit, with what would.
    """
    all_of_them = width(covered_layers(denoiser.module, norms=norms))
    number = denoiser.like.element_size() * images
    need = number * (projection or all_of_them)
    if need > memory:
        raise BegatError(
            f"scores_trak.projection_dim: expected at most {memory // number} numbers of each of "
            f"{images} gradients, as all are held in {memory / 2**30:.1f} GiB of memory, found "
            f"{projection or f'0, all {all_of_them}'} ({need / 2**30:.1f} GiB)"
        )


def _features(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    sample: Sample,
    draws: DrawsOf,
    method: Method,
    function: str,
    project: Projection | None,
    examples: int,
) -> Float[np.ndarray, "image feature"]:
    """Every image's feature; DAS's are means of gradients of length 1, draw by draw."""
    kept = torch.empty(
        len(sample), project.width if project else width(layers), dtype=denoiser.like.dtype
    )
    waiting: list[torch.Tensor] = []
    most = min(examples, MAX_WAITING_NUMBERS // width(layers))
    stream = image_gradients(
        denoiser, layers, sample, draws, (function,), each_draw=method == "das", examples=examples
    )
    for some, (rows,) in stream:
        if method == "das":
            rows = torch.nn.functional.normalize(rows, dim=2)
        waiting.append(rows.mean(0))
        if project is None or sum(map(len, waiting)) >= most or some.stop == len(sample):
            row = torch.cat(waiting)
            kept[some.stop - len(row) : some.stop] = project(row) if project else row
            waiting = []
    return kept.numpy()
