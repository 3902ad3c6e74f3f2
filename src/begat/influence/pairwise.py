"""Products of query gradients with training gradients that stream past, and their reliability."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from begat.diffusion.bounds import MAX_CENTRE_IMAGES as MAX_CENTRE_IMAGES
from begat.diffusion.denoisers import Denoiser
from begat.diffusion.image_draws import DrawsOf, unmirrored
from begat.evaluation.statistics import correlation
from begat.influence.blocks import MAX_EXAMPLES
from begat.influence.gradients import (
    Sample,
    backs_of,
    block_gradients,
    image_gradients,
    mean_gradient,
    passes,
)
from begat.influence.kronecker import Block, preconditioned
from begat.influence.layers import Layer, width
from begat.influence.quantised_gradients import StoredRows, products

Scores = Float[np.ndarray, "*variant query image"]


def query_gradients(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    queries: Sample,
    draws: DrawsOf,
    measurement: str,
    *,
    parts: int = 1,
    centre: Sample | None = None,
    examples: int = MAX_EXAMPLES,
) -> Float[Tensor, "part row parameter"]:
    """The queries' gradients, a row each; with ``centre`` one more row, the mean over its images.

    Queries are measured as they are, so nothing is mirrored here. A score less that of the last row
    says how much more an image does for a query than for the average image: what the shared draws
    do to all images alike is gone, and so is the sign's meaning. The mean is taken over at most
    ``MAX_CENTRE_IMAGES`` images spread evenly over ``centre``: all of them would cost another pass,
    and the variance of the mean is 1/512 of that between images.
    """
    like, plain = denoiser.like, unmirrored(draws)
    gradients = like.new_empty(parts, len(queries) + (centre is not None), width(layers))
    asked = denoiser, layers, queries, plain, (measurement,)
    for some, (rows,) in image_gradients(*asked, parts=parts, examples=examples):
        gradients[:, some] = rows
    if centre is not None:
        number = min(MAX_CENTRE_IMAGES, len(centre))
        spread = np.unique(np.linspace(0, len(centre) - 1, number).round())
        few = centre.only([int(i) for i in spread])
        of_mean = denoiser, layers, few, plain, measurement
        gradients[:, len(queries) :] = mean_gradient(*of_mean, parts=parts, examples=examples)
    return gradients


def products_with_all(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    images: Sample,
    draws: DrawsOf,
    measurement: str,
    queries: Sequence[StoredRows],
    member_of: Bool[np.ndarray, "group image"],
    *,
    examples: int = MAX_EXAMPLES,
) -> tuple[
    Float[np.ndarray, "query_part image_part row image"],
    Float[Tensor, "image_part group parameter"],
]:
    """The product of every stored row with every image's gradient, for all pairs of parts.

    The images' gradients pass by in blocks and are forgotten, but for each group's mean of them (0
    for a group without images). There are as many parts of the draws as there are sets of stored
    rows.

    Raises:
        BegatError: a gradient is not finite, with the image and the draw.
    """
    parts = len(queries)
    shape = (parts, parts, queries[0].rows, len(images))
    like = denoiser.like
    found = torch.zeros(shape, dtype=like.dtype).numpy()
    sums = like.new_zeros(parts, len(member_of), width(layers), dtype=torch.float64)
    members = torch.from_numpy(member_of).to(like)
    how = backs_of([measurement]), examples, parts
    for block, tape in passes(denoiser, layers, images, draws, *how):
        # an image's parts stand side by side on the tape; those of a sum are apart
        of_parts = torch.eye(parts)[:, block.parts_held].to(like) * block.share
        counts = torch.einsum("gi,pq->pgiq", members[:, block.images], of_parts)
        told = counts.flatten(0, 1).flatten(1), sums.flatten(0, 1)
        for i, product in enumerate(products(tape, queries, *told)):
            if not product.isfinite().all():
                block_gradients(tape, block)  # raises, with the image and the draw
            by_part = product.unflatten(0, (len(block.names), -1)).permute(1, 2, 0)
            found[i, block.parts_held, :, block.images] += by_part.cpu().numpy() * block.share
    sizes = members.sum(1, keepdim=True).clamp(min=1)
    return found, (sums / sizes).to(like)


def split_half_reliability(first: Scores, second: Scores) -> Float[np.ndarray, "*variant query"]:
    """How well two halves of the draws agree on a query's images, stepped up to all draws.

    With r the correlation of the halves' scores over images, 2r / (1 + r) (Spearman-Brown); 0 where
    they do not agree at all.
    """
    r = np.maximum(correlation(first, second), 0)
    return 2 * r / (1 + r)


def best_by_agreement(
    first: Float[np.ndarray, "damping query image"],
    second: Float[np.ndarray, "damping query image"],
) -> int:
    """The damping whose scores two halves of the draws agree on best, no truth consulted.

    An idea, not a theorem: agreement rewards steady scores, and a large damping is steady too.
    """
    return int(split_half_reliability(first, second).mean(1).argmax())


def group_scores(
    blocks: Sequence[Block],
    queries: Float[Tensor, "query parameter"],
    group: Float[Tensor, " parameter"],
    share: float,
    kind: str,
    damping: float,
) -> Float[Tensor, " query"]:
    """g_q^T (H - H_u/N)^-1 g_u / N: what leaving out a whole group does, in one Newton step.

    First-order scores take every image's effect at the full model and sum; here the curvature the
    group itself contributed is gone as well, which for a quadratic loss is exact.

    Args:
        blocks: the curvature without the group, from ``kronecker.without``.
        queries: the queries' gradients.
        group: the mean gradient of the group's images.
        share: the group's size over the number of images.
        kind, damping: as in ``kronecker.preconditioned``.
    """
    (step,) = preconditioned(blocks, group[None] * share, kind, [damping])
    return queries @ step[0]
