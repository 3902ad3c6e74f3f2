"""Variants of influence scores: curvature and damping, and the selection of one damping each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from begat.influence.pairwise import select_damping

STRUCTURES = ("ekfac", "kfac", "gradient_dot")
METHODS = (*STRUCTURES, *(f"{structure}_centred" for structure in STRUCTURES))
GROUP_METHODS = ("ekfac_downdated",)


@dataclass(frozen=True)
class Variant:
    """A curvature and a damping; ``gradient_dot`` has neither."""

    structure: Literal["ekfac", "kfac", "gradient_dot"]
    damping_mode: str = "mean_eigenvalue"
    damping: float = 0.0

    @property
    def name(self) -> str:
        """A name such as ``ekfac mean_eigenvalue 0.0001``."""
        if self.structure == "gradient_dot":
            return "gradient_dot"
        return f"{self.structure} {self.damping_mode} {self.damping:g}"


def variants(damping_mode: str, dampings: Sequence[float]) -> list[Variant]:
    """Returns every damping with both curvatures, and the plain product of gradients."""
    return [
        *(Variant("ekfac", damping_mode, damping) for damping in dampings),
        *(Variant("kfac", damping_mode, damping) for damping in dampings),
        Variant("gradient_dot"),
    ]


def select_dampings(
    variants: Sequence[Variant], first: np.ndarray, second: np.ndarray
) -> Bool[np.ndarray, " variant"]:
    """Returns a mask of each structure's most reliable damping, from two halves of the draws."""
    chosen = np.zeros(len(variants), bool)
    for structure in dict.fromkeys(v.structure for v in variants):
        indices = [i for i, v in enumerate(variants) if v.structure == structure]
        chosen[indices[select_damping(first[indices], second[indices])]] = True
    return chosen


def selected(
    variants: Sequence[Variant], chosen: Bool[np.ndarray, " variant"], structure: str
) -> Variant:
    """Returns the variant of a structure that ``chosen`` marks."""
    return next(v for v, c in zip(variants, chosen, strict=True) if c and v.structure == structure)


def best(
    variants: Sequence[Variant], scores: Mapping[str, np.ndarray]
) -> tuple[list[Variant], dict[str, Float[np.ndarray, "method query ..."]]]:
    """Returns the variant selected for each of ``STRUCTURES``, and the arrays of ``METHODS``.

    A score and its centred form have the same damping. The arrays of groups are returned as given.
    """
    by_structure = [selected(variants, scores["chosen"], structure) for structure in STRUCTURES]
    indices = [variants.index(variant) for variant in by_structure]
    arrays = {
        name: np.concatenate([scores[name][indices], scores[f"{name}_centred"][indices]])
        for name in ("score", "reliability")
    }
    return by_structure, arrays | {n: v for n, v in scores.items() if n.startswith("group_")}
