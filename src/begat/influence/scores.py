"""Scores by influence functions: what a query's loss would do if an image left the training sum.

score[query, image] = g_q^T (H + d)^-1 g_image / N, where g_q is the gradient of the query's loss
as this package measures it (noise space), g_image that of the loss the model was trained on, H
the curvature of the latter's mean and d a damping (arXiv 2410.13850; derivation of the sign:
the weights that minimise the sum without the image are, to first order, H^-1 g_image / N away).
A group's score is the sum over its images. Signs mean what they mean for every score, sizes are
not calibrated: the model is no minimum and its loss no quadratic.

``..._centred`` are the same less the score of the average training image in the query's place:
which images do more for this query than for others. They only rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from begat.diffusion.denoisers import Denoiser
from begat.diffusion.image_draws import DrawsOf
from begat.errors import BegatError
from begat.evaluation.measures import FIRST_ORDER, GRADIENT_PRODUCT
from begat.influence.blocks import MAX_EXAMPLES
from begat.influence.gradients import Sample
from begat.influence.kronecker import Block, blocks, divided, without
from begat.influence.layers import Layer, covered_layers
from begat.influence.pairwise import (
    best_by_agreement,
    group_scores,
    products_with_all,
    query_gradients,
    split_half_reliability,
)
from begat.influence.quantised_gradients import Storage, StoredRows, stored

STRUCTURES = {"ekfac": FIRST_ORDER, "kfac": FIRST_ORDER, "gradient_dot": GRADIENT_PRODUCT}
METHODS = {
    **STRUCTURES,
    **{f"{name}_centred": measure.centred for name, measure in STRUCTURES.items()},
}
GROUP_METHODS = {"ekfac_downdated": FIRST_ORDER}
Curvatures = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Variant:
    """A curvature and a damping; ``gradient_dot`` has neither."""

    structure: Literal["ekfac", "kfac", "gradient_dot"]
    kind: str = "mean_eigenvalue"
    damping: float = 0.0

    @property
    def name(self) -> str:
        """In words: ``ekfac relative 0.0001``."""
        if self.structure == "gradient_dot":
            return "gradient_dot"
        return f"{self.structure} {self.kind} {self.damping:g}"


def score(
    denoiser: Denoiser,
    curvature: Curvatures,
    images: Sample,
    queries: Sample,
    draws: DrawsOf,
    variants: Sequence[Variant],
    *,
    member_of: Bool[np.ndarray, "group image"] | None = None,
    norms: bool = True,
    centred: bool = True,
    halves: bool = True,
    storage: Storage = "float32",
    share: float = 1.0,
    examples: int = MAX_EXAMPLES,
) -> dict[str, np.ndarray]:
    """``score[variant, query, image]``, with ``centred`` also ``score_centred``, of the same shape.

    With ``halves`` each comes with its ``reliability[variant, query]``, and ``chosen[variant]``
    marks the damping of each structure. One pass over the images serves all variants, and groups:
    ``member_of`` adds ``group_score[method, query, group]`` and ``group_uncertainty``, by EK-FAC
    with the damping chosen. Kept in memory are, for each half of the draws, the queries' gradients,
    one row per variant and query, one more of each for centring, and the groups' mean gradients.

    Args:
        denoiser: the network.
        curvature: what ``influence.factors`` made of it.
        images: what it was trained on.
        queries: the images asked about.
        draws: of images and queries alike, the latter without mirroring.
        variants: what to compute.
        member_of: which images each group has; asks for ``halves`` and an EK-FAC variant.
        norms: as the factors were made.
        centred: score the average training image in the query's place too, see above.
        halves: estimate from two halves of the draws how far the draws can be trusted.
        storage: how the queries' rows are kept.
        share: these images' share of all those in question. Scores are brought to the size of the
            whole, so that models trained on more or fewer images can be averaged.
        examples: noisy images per network call, at most; for speed only.

    Raises:
        BegatError: a gradient is not finite, a curvature cannot be inverted, or the curvature is
            not that of this network's layers.
    """
    layers = covered_layers(denoiser.module, norms=norms)
    _check_layers(layers, curvature)
    parts = 2 if halves else 1
    gradients = query_gradients(
        denoiser,
        layers,
        queries,
        draws,
        "noise",
        parts=parts,
        centre=images if centred else None,
        examples=examples,
    )
    tensors = _tensors(curvature, denoiser.like)
    kept = _preconditioned(layers, tensors, gradients, variants, storage)
    groups = np.zeros((0, len(images)), bool) if member_of is None else member_of
    given = denoiser, layers, images, draws, "training", kept, groups
    products, means = products_with_all(*given, examples=examples)
    products = products.reshape(parts, parts, len(variants), -1, len(images))
    found = _image_scores(products, len(queries), variants, share / len(images))
    if member_of is not None:
        variant = _chosen_of(variants, found["chosen"], "ekfac")
        asked = gradients[:, : len(queries)]
        found |= _group_scores(layers, tensors, asked, means, member_of, variant)
    return found


def _image_scores(
    products: Float[np.ndarray, "query_part image_part variant row image"],
    queries: int,
    variants: Sequence[Variant],
    scale: float,
) -> dict[str, np.ndarray]:
    """The arrays of ``score`` that belong to images; a row behind the queries' is for centring."""
    ways = {"": products[..., :queries, :]}
    if products.shape[3] > queries:
        ways["_centred"] = ways[""] - products[..., queries:, :]
    found = {f"score{way}": values.mean((0, 1)) * scale for way, values in ways.items()}
    if len(products) == 2:
        halves = {way: (values[0, 0], values[1, 1]) for way, values in ways.items()}
        for way, half in halves.items():
            found[f"reliability{way}"] = split_half_reliability(*half)
        found["chosen"] = _chosen(variants, *halves[""])
    return found


def _group_scores(
    layers: Sequence[Layer],
    tensors: Mapping[str, Mapping[str, Tensor]],
    asked: Float[Tensor, "part query parameter"],
    means: Float[Tensor, "part group parameter"],
    member_of: Bool[np.ndarray, "group image"],
    variant: Variant,
) -> dict[str, Float[np.ndarray, "method query group"]]:
    """Scores of whole groups by EK-FAC, the curvature down-dated by each group's own.

    Sums of image scores take every image's effect at the full model; here the curvature that the
    group itself contributed is taken off first (``influence.pairwise.group_scores``). A group
    without any of the images scores 0. The uncertainty is half the difference between two halves of
    the draws.
    """
    whole, how = blocks(layers, tensors, "ekfac"), (variant.kind, variant.damping)
    found = np.zeros((2, 2, asked.shape[1], len(member_of)))
    for group in np.flatnonzero(member_of.any(1)).tolist():
        share = float(member_of[group].mean())
        left = without(whole, blocks(layers, _of_group(tensors, group), "ekfac"), share)
        for j in range(2):
            effect = group_scores(left, asked.flatten(0, 1), means[j, group], share, *how)
            found[:, j, :, group] = effect.unflatten(0, (2, -1)).cpu().numpy()
    spread = np.abs(found[0, 0] - found[1, 1]) / 2
    return {"group_score": found.mean((0, 1))[None], "group_uncertainty": spread[None]}


def _of_group(
    tensors: Mapping[str, Mapping[str, Tensor]], group: int
) -> dict[str, dict[str, Tensor]]:
    """The curvature of one group's images, in the directions of the whole."""
    return {
        layer: {
            name: parts[f"group_{name}"][group] if f"group_{name}" in parts else value
            for name, value in parts.items()
            if not name.startswith("group_")
        }
        for layer, parts in tensors.items()
    }


def variants(kind: str, dampings: Sequence[float]) -> list[Variant]:
    """Every damping under both structures, and the plain product of gradients."""
    return [
        *(Variant("ekfac", kind, damping) for damping in dampings),
        *(Variant("kfac", kind, damping) for damping in dampings),
        Variant("gradient_dot"),
    ]


def best(
    wanted: Sequence[Variant], found: Mapping[str, np.ndarray]
) -> tuple[list[Variant], dict[str, Float[np.ndarray, "method query ..."]]]:
    """The variant chosen for each of ``STRUCTURES``, and the arrays of ``METHODS``.

    A score and its centred form have the same damping. The arrays of groups are as they were found.
    """
    of = [_chosen_of(wanted, found["chosen"], structure) for structure in STRUCTURES]
    at = [wanted.index(variant) for variant in of]
    arrays = {
        name: np.concatenate([found[name][at], found[f"{name}_centred"][at]])
        for name in ("score", "reliability")
    }
    return of, arrays | {n: v for n, v in found.items() if n.startswith("group_")}


def _chosen_of(variants: Sequence[Variant], chosen: np.ndarray, structure: str) -> Variant:
    """The variant of a structure that ``chosen`` marks."""
    return next(v for v, c in zip(variants, chosen, strict=True) if c and v.structure == structure)


def _preconditioned(
    layers: Sequence[Layer],
    tensors: Mapping[str, Mapping[str, Tensor]],
    gradients: Float[Tensor, "part query parameter"],
    variants: Sequence[Variant],
    storage: Storage,
) -> list[StoredRows]:
    """For each part of the draws, the rows of every (variant, query)."""
    whole: dict[str, list[Block]] = {
        v.structure: blocks(layers, tensors, v.structure)
        for v in variants
        if v.structure != "gradient_dot"
    }

    def of_layer(layer: Layer, rows: Tensor) -> Float[Tensor, "row part"]:
        found = rows[:, layer.place].repeat(len(variants), 1, 1)
        for structure, kind in dict.fromkeys((v.structure, v.kind) for v in variants):
            at = [i for i, v in enumerate(variants) if (v.structure, v.kind) == (structure, kind)]
            values = [variants[i].damping for i in at]
            for block in whole.get(structure, []):
                if layer.start <= block.place.start < layer.stop:
                    place = slice(block.place.start - layer.start, block.place.stop - layer.start)
                    for i, part in zip(at, divided(block, rows, kind, values), strict=True):
                        found[i, :, place] = part
        return found.flatten(0, 1)

    return [
        stored((of_layer(layer, rows) for layer in layers), layers, storage) for rows in gradients
    ]


def _chosen(variants: Sequence[Variant], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Marks in each structure the damping that two halves of the draws agree on best."""
    chosen = np.zeros(len(variants), bool)
    for structure in dict.fromkeys(v.structure for v in variants):
        at = [i for i, v in enumerate(variants) if v.structure == structure]
        chosen[at[best_by_agreement(first[at], second[at])]] = True
    return chosen


def _tensors(curvature: Curvatures, like: Tensor) -> dict[str, dict[str, Tensor]]:
    """The same memory, where it is of the right kind: eigenvectors are the largest thing here."""
    return {
        layer: {n: torch.from_numpy(np.require(v, requirements="W")).to(like) for n, v in p.items()}
        for layer, p in curvature.items()
    }


def _check_layers(layers: Sequence[Layer], curvature: Curvatures) -> None:
    if odd := sorted({layer.name for layer in layers} ^ set(curvature)):
        raise BegatError(
            f"scores_influence: expected factors of {len(layers)} layers, found {len(curvature)} "
            f"({', '.join(odd[:3])}): were they made of another model?"
        )
