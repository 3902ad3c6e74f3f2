"""Influence-function scores: the first-order change of a query's loss if an image were removed.

score[query, image] = g_q^T (H + d)^-1 g_image / N, where g_q is the gradient of the query's loss
as this package measures it (noise space), g_image that of the loss the model was trained on, H
the curvature of the latter's mean and d a damping (arXiv 2410.13850; derivation of the sign:
the weights that minimise the sum without the image are, to first order, H^-1 g_image / N away).
A group's score is the sum over its images. Signs are those of every score, sizes are not
calibrated: the model is no minimum and its loss no quadratic.

``..._centred`` are the same less the score of the average training image in the query's place:
which images help this query more than others. They only rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from begat.errors import BegatError
from begat.influence.factors import Factors
from begat.influence.gradient_source import GradientSource, ImageSet
from begat.influence.kronecker import (
    Curvature,
    CurvatureBlock,
    curvature_blocks,
    damped_solve,
    downdated,
)
from begat.influence.layers import Layer
from begat.influence.pairwise import (
    group_scores,
    pairwise_products,
    query_gradients,
    split_half_reliability,
)
from begat.influence.quantised_gradients import GradientDtype, QuantisedGradients, quantise
from begat.influence.variants import Variant, select_dampings, selected


@dataclass(frozen=True)
class ScoreOptions:
    """What ``score`` returns besides scores, and how.

    Attributes:
        centred: score the average training image in the query's place too.
        halves: estimate the reliability from two halves of the draws.
        query_gradient_dtype: of the query gradients in memory.
        share: the share of the images of all those that are scored. Scores are scaled to the whole,
            so that models trained on more or fewer images can be averaged.
    """

    centred: bool = True
    halves: bool = True
    query_gradient_dtype: GradientDtype = "float32"
    share: float = 1.0


def score(
    source: GradientSource,
    factors: Factors,
    images: ImageSet,
    queries: ImageSet,
    variants: Sequence[Variant],
    *,
    member_of: Bool[np.ndarray, "group image"] | None = None,
    options: ScoreOptions = ScoreOptions(),
) -> dict[str, np.ndarray]:
    """Returns ``score[variant, query, image]``, and ``score_centred`` of the same shape.

    With ``options.halves`` each has its ``reliability[variant, query]``, and ``chosen[variant]``
    marks the damping of each structure. One pass over the images serves all variants, and groups:
    ``member_of`` (with an EK-FAC variant and ``halves``) adds ``group_score[method, query, group]``
    and ``group_uncertainty``, by EK-FAC with the damping chosen. In memory are, for each half of
    the draws, the queries' gradients, one row per variant and query, one more of each for centring,
    and the groups' mean gradients. Queries have the draws of ``source``, without mirroring.

    Raises:
        BegatError: a gradient is not finite, a curvature cannot be inverted, or the factors are
            not those of ``source.layers``.
    """
    _check_layers(source.layers, factors)
    parts, centre = 2 if options.halves else 1, images if options.centred else None
    gradients = query_gradients(source, queries, "noise", parts=parts, centre=centre)
    curvature = _tensors(factors, source.denoiser.like)
    dtype = options.query_gradient_dtype
    rows = _preconditioned(source.layers, curvature, gradients, variants, dtype)
    groups = np.zeros((0, len(images)), bool) if member_of is None else member_of
    products, means = pairwise_products(source, images, "training", rows, groups)
    products = products.reshape(parts, parts, len(variants), -1, len(images))
    scores = _image_scores(products, len(queries), variants, options.share / len(images))
    if member_of is not None:
        variant = selected(variants, scores["chosen"], "ekfac")
        gradients = gradients[:, : len(queries)]
        scores |= _group_scores(source.layers, curvature, gradients, means, member_of, variant)
    return scores


def _image_scores(
    products: Float[np.ndarray, "query_part image_part variant row image"],
    queries: int,
    variants: Sequence[Variant],
    scale: float,
) -> dict[str, np.ndarray]:
    """Returns the arrays of ``score`` for images; a row after the queries' is for centring."""
    forms = {"": products[..., :queries, :]}
    if products.shape[3] > queries:
        forms["_centred"] = forms[""] - products[..., queries:, :]
    scores = {f"score{form}": values.mean((0, 1)) * scale for form, values in forms.items()}
    if len(products) == 2:
        halves = {form: (values[0, 0], values[1, 1]) for form, values in forms.items()}
        for form, pair in halves.items():
            scores[f"reliability{form}"] = split_half_reliability(*pair)
        scores["chosen"] = select_dampings(variants, *halves[""])
    return scores


def _group_scores(
    layers: Sequence[Layer],
    curvature: Curvature,
    queries: Float[Tensor, "part query parameter"],
    means: Float[Tensor, "part group parameter"],
    member_of: Bool[np.ndarray, "group image"],
    variant: Variant,
) -> dict[str, Float[np.ndarray, "method query group"]]:
    """Returns scores of whole groups by EK-FAC, the curvature down-dated by each group's own.

    Sums of image scores take every image's effect at the full model; here the curvature that the
    group itself contributed is removed first (``influence.pairwise.group_scores``). A group without
    any of the images scores 0. The uncertainty is half the difference between two halves of the
    draws.
    """
    whole = curvature_blocks(layers, curvature, "ekfac")
    damping = variant.damping_mode, variant.damping
    scores = np.zeros((2, 2, queries.shape[1], len(member_of)))
    for group in np.flatnonzero(member_of.any(1)).tolist():
        share = float(member_of[group].mean())
        own = curvature_blocks(layers, _group_curvature(curvature, group), "ekfac")
        remaining = downdated(whole, own, share)
        for j in range(2):
            mean = means[j, group]
            effect = group_scores(remaining, queries.flatten(0, 1), mean, share, *damping)
            scores[:, j, :, group] = effect.unflatten(0, (2, -1)).cpu().numpy()
    spread = np.abs(scores[0, 0] - scores[1, 1]) / 2
    return {"group_score": scores.mean((0, 1))[None], "group_uncertainty": spread[None]}


def _group_curvature(curvature: Curvature, group: int) -> dict[str, dict[str, Tensor]]:
    """Returns the curvature of one group's images, in the eigenbasis of the whole."""
    return {
        layer: {
            name: factors[f"group_{name}"][group] if f"group_{name}" in factors else value
            for name, value in factors.items()
            if not name.startswith("group_")
        }
        for layer, factors in curvature.items()
    }


def _preconditioned(
    layers: Sequence[Layer],
    curvature: Curvature,
    gradients: Float[Tensor, "part query parameter"],
    variants: Sequence[Variant],
    dtype: GradientDtype,
) -> list[QuantisedGradients]:
    """Returns, for each part of the draws, the rows of every (variant, query)."""
    blocks: dict[str, list[CurvatureBlock]] = {
        v.structure: curvature_blocks(layers, curvature, v.structure)
        for v in variants
        if v.structure != "gradient_dot"
    }

    by_damping_mode: dict[tuple[str, str], list[int]] = {}
    for i, variant in enumerate(variants):
        by_damping_mode.setdefault((variant.structure, variant.damping_mode), []).append(i)

    def solved_columns(layer: Layer, rows: Tensor) -> Float[Tensor, "row column"]:
        result = rows[:, layer.span].repeat(len(variants), 1, 1)
        for (structure, mode), indices in by_damping_mode.items():
            dampings = [variants[i].damping for i in indices]
            for block in blocks.get(structure, []):
                if layer.start <= block.span.start < layer.stop:
                    span = slice(block.span.start - layer.start, block.span.stop - layer.start)
                    solutions = damped_solve(block, rows, mode, dampings)
                    for i, solution in zip(indices, solutions, strict=True):
                        result[i, :, span] = solution
        return result.flatten(0, 1)

    return [
        quantise((solved_columns(layer, rows) for layer in layers), layers, dtype)
        for rows in gradients
    ]


def _tensors(factors: Factors, like: Tensor) -> dict[str, dict[str, Tensor]]:
    """Returns tensors in the same memory where the dtype fits: eigenvectors are large."""
    return {
        layer: {n: torch.from_numpy(np.require(v, requirements="W")).to(like) for n, v in p.items()}
        for layer, p in factors.items()
    }


def _check_layers(layers: Sequence[Layer], factors: Factors) -> None:
    if unmatched := sorted({layer.name for layer in layers} ^ set(factors)):
        raise BegatError(
            f"influence scores: expected factors of {len(layers)} layers, found {len(factors)} "
            f"({', '.join(unmatched[:3])}): were they made of another model?"
        )
