"""Products of query gradients with streamed training gradients, and their reliability."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from begat.diffusion.bounds import MAX_CENTRE_IMAGES as MAX_CENTRE_IMAGES
from begat.evaluation.statistics import correlation
from begat.influence.gradient_source import GradientSource, ImageSet
from begat.influence.gradients import (
    backward_passes,
    block_gradients,
    image_gradients,
    mean_gradient,
    measurement_gradients,
)
from begat.influence.kronecker import CurvatureBlock, preconditioned
from begat.influence.layers import row_width
from begat.influence.quantised_gradients import QuantisedGradients, tape_products

Scores = Float[np.ndarray, "*variant query image"]


def query_gradients(
    source: GradientSource,
    queries: ImageSet,
    measurement: str,
    *,
    parts: int = 1,
    centre: ImageSet | None = None,
) -> Float[Tensor, "part row parameter"]:
    """Returns the queries' gradients, a row each; with ``centre`` also the mean over its images.

    Queries are measured as they are: nothing is mirrored. A score less that of the last row is how
    much more an image helps a query than the average image: the effect of the shared draws on all
    images alike is removed, and with it the meaning of the sign. The mean is taken over at most
    ``MAX_CENTRE_IMAGES`` images spread evenly over ``centre``: all of them would cost another pass,
    and the variance of the mean is 1/512 of that between images.
    """
    source, like = source.unmirrored, source.denoiser.like
    rows = len(queries) + (centre is not None)
    gradients = like.new_empty(parts, rows, row_width(source.layers))
    for span, (block,) in image_gradients(source, queries, (measurement,), parts=parts):
        gradients[:, span] = block
    if centre is not None:
        number = min(MAX_CENTRE_IMAGES, len(centre))
        spread = np.unique(np.linspace(0, len(centre) - 1, number).round())
        subset = centre.subset([int(i) for i in spread])
        gradients[:, len(queries) :] = mean_gradient(source, subset, measurement, parts=parts)
    return gradients


def pairwise_products(
    source: GradientSource,
    images: ImageSet,
    measurement: str,
    queries: Sequence[QuantisedGradients],
    member_of: Bool[np.ndarray, "group image"],
) -> tuple[
    Float[np.ndarray, "query_part image_part row image"],
    Float[Tensor, "image_part group parameter"],
]:
    """Returns the products of all query rows with all images, and the mean gradients of groups.

    The images' gradients are streamed in blocks, so that only each group's mean of them stays in
    memory (0 for a group without images). ``queries`` has one entry for each part of the draws;
    there is a product for each pair of parts.

    Raises:
        BegatError: a gradient is not finite, with the image and the draw.
    """
    parts, like = len(queries), source.denoiser.like
    shape = (parts, parts, queries[0].rows, len(images))
    products = torch.zeros(shape, dtype=like.dtype).numpy()
    width = row_width(source.layers)
    sums = like.new_zeros(parts, len(member_of), width, dtype=torch.float64)
    members = torch.from_numpy(member_of).to(like)
    for block, tape in backward_passes(source, images, measurement_gradients([measurement]), parts):
        # an image's parts are adjacent on the tape; those of a sum are apart
        part_weights = torch.eye(parts)[:, block.part_span].to(like) * block.share
        weights = torch.einsum("gi,pq->pgiq", members[:, block.images], part_weights)
        group_sums = weights.flatten(0, 1).flatten(1), sums.flatten(0, 1)
        for i, product in enumerate(tape_products(tape, queries, *group_sums)):
            if not product.isfinite().all():
                block_gradients(tape, block)  # raises, with the image and the draw
            by_part = product.unflatten(0, (len(block.ids), -1)).permute(1, 2, 0)
            products[i, block.part_span, :, block.images] += by_part.cpu().numpy() * block.share
    sizes = members.sum(1, keepdim=True).clamp(min=1)
    return products, (sums / sizes).to(like)


def split_half_reliability(first: Scores, second: Scores) -> Float[np.ndarray, "*variant query"]:
    """Returns the agreement of two halves of the draws on a query, extrapolated to all draws.

    With r the correlation of the halves' scores over images, 2r / (1 + r) (Spearman-Brown); 0 where
    they do not agree at all.
    """
    r = np.maximum(correlation(first, second), 0)
    return 2 * r / (1 + r)


def select_damping(
    first: Float[np.ndarray, "damping query image"],
    second: Float[np.ndarray, "damping query image"],
) -> int:
    """Returns the index of the damping with the highest split-half reliability.

    It needs no ground truth. An idea, not a theorem: reliability rewards steady scores, and a large
    damping is steady too.
    """
    return int(split_half_reliability(first, second).mean(1).argmax())


def group_scores(
    blocks: Sequence[CurvatureBlock],
    queries: Float[Tensor, "query parameter"],
    group: Float[Tensor, " parameter"],
    share: float,
    damping_mode: str,
    damping: float,
) -> Float[Tensor, " query"]:
    """Returns g_q^T (H - H_u/N)^-1 g_u / N: the effect of removing a group, by one Newton step.

    First-order scores sum the effects of single images at the full model; here the curvature that
    the group itself contributed is removed as well, which for a quadratic loss is exact.

    Args:
        blocks: the curvature without the group, from ``kronecker.downdated``.
        queries: the queries' gradients.
        group: the mean gradient of the group's images.
        share: the group's size over the number of images.
        damping_mode, damping: as in ``kronecker.preconditioned``.
    """
    (step,) = preconditioned(blocks, group[None] * share, damping_mode, [damping])
    return queries @ step[0]
