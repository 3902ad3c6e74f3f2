"""Scores by influence functions: what a query's loss would do if an image left the training sum.

score[query, image] = g_q^T (H + d)^-1 g_image / N, where g_q is the gradient of the query's loss
as this package measures it (noise space), g_image that of the loss the model was trained on, H
the curvature of the latter's mean and d a damping (arXiv 2410.13850; derivation of the sign:
the weights that minimise the sum without the image are, to first order, H^-1 g_image / N away).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.core.denoisers import Denoiser
from begat.core.gradients import EXAMPLES, Sample
from begat.core.image_draws import DrawsOf
from begat.core.influence import (
    best_by_agreement,
    places_of,
    products_with_all,
    query_gradients,
    split_half_reliability,
)
from begat.core.kronecker import Structure, blocks, dead_blocks, preconditioned
from begat.core.layers import Layer, covered_layers
from begat.core.stored_rows import Storage, StoredRows, stored
from begat.errors import BegatError

Curvatures = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Variant:
    """A curvature and a damping; ``gradient_dot`` has neither."""

    structure: Literal["ekfac", "kfac", "gradient_dot"]
    kind: str = "relative"
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
    norms: bool = True,
    centred: bool = True,
    halves: bool = True,
    storage: Storage = "full",
    examples: int = EXAMPLES,
) -> dict[str, np.ndarray]:
    """``score[variant, query, image]``; with ``halves`` also ``reliability[variant, query]``.

    One pass over the images serves all variants. Kept in memory are the queries' gradients, one
    row per variant and half of the draws.

    Args:
        denoiser: the network.
        curvature: what ``stages.factors`` made of it.
        images: what it was trained on.
        queries: the images asked about.
        draws: of images and queries alike, see ``core.image_draws``.
        variants: what to compute.
        norms: as the factors were made.
        centred: take the mean training gradient off the queries'; meant for shared draws.
        halves: estimate from two halves of the draws how far the draws can be trusted.
        storage: how the queries' rows are kept.
        examples: noisy images per network call, for speed only.

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
    kept = _preconditioned(denoiser, layers, curvature, gradients, variants, storage)
    del gradients  # as large as what is kept
    products = products_with_all(
        denoiser, layers, images, draws, "training", kept, examples=examples
    )
    products = products.reshape(parts, parts, len(variants), len(queries), len(images))
    found = {"score": products.mean((0, 1)) / len(images)}
    if halves:
        found["reliability"] = split_half_reliability(products[0, 0], products[1, 1])
        found["chosen"] = _chosen(variants, products[0, 0], products[1, 1])
    return found


def dead(curvature: Curvatures, layers: Sequence[Layer]) -> list[str]:
    """The blocks without curvature, which contribute nothing to a score."""
    return dead_blocks(blocks(layers, _tensors(curvature, torch.zeros(())), "ekfac"))


def _preconditioned(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    curvature: Curvatures,
    gradients: Float[Tensor, "part query parameter"],
    variants: Sequence[Variant],
    storage: Storage,
) -> list[StoredRows]:
    """For each part of the draws, the rows of every (variant, query)."""
    tensors = _tensors(curvature, denoiser.like)
    kept = []
    for rows in gradients:
        found = torch.empty(len(variants), *rows.shape).to(rows)
        for structure, kind in dict.fromkeys((v.structure, v.kind) for v in variants):
            at = [i for i, v in enumerate(variants) if (v.structure, v.kind) == (structure, kind)]
            if structure == "gradient_dot":
                found[at] = rows
                continue
            which: Structure = structure
            values = [variants[i].damping for i in at]
            found[at] = preconditioned(blocks(layers, tensors, which), rows, kind, values)
        kept.append(stored(found.flatten(0, 1), places_of(layers), storage))
    return kept


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
