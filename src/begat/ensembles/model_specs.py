"""Specification of a model to train: its kind, training set, seed and random stream."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from begat.errors import BegatError


@dataclass(frozen=True)
class Model:
    """One model to train.

    Attributes:
        name: unique in a run.
        kind: ``full`` (all images), ``logo`` (all but one group), ``member`` and
            ``group_member`` (by an image's or a group's code), ``subset`` and ``group_subset``
            (a random subset of the images or groups, ground truth for scores).
        index: of the group, code bit or subset.
        seed: number of the repetition.
        stream: name of its random numbers (a ``logo`` model shares the full model's).
        pack: the models that it is trained with.
        recipe: everything that decides its training set and random numbers besides the images.
            The number of models of a kind is not part of it (unless a code as published depends
            on it), so adding models leaves the recipes of the others as they were.
    """

    name: str
    kind: str
    index: int
    seed: int
    stream: str
    pack: str
    recipe: Mapping[str, Any]

    def attributes(self) -> dict[str, str | int]:
        """Returns the model as plain JSON values, its recipe left out."""
        names = ("name", "kind", "index", "seed", "stream", "pack")
        return {name: getattr(self, name) for name in names}


def subset_size(units: int, fraction: float) -> int:
    """Returns the size of a random subset: at least one unit, and never all."""
    return min(max(round(fraction * units), 1), units - 1)


def distinct_subsets(units: int, fraction: float, enough: int) -> int:
    """Returns the number of distinct subsets; ``enough`` where there are at least as many."""
    if units < 2:
        return 0
    return enough if enough <= units else math.comb(units, subset_size(units, fraction))


def check_subsets(kind: str, count: int, units: int, fraction: float) -> None:
    """Raise BegatError where ``count`` subsets cannot all differ."""
    if count > (maximum := distinct_subsets(units, fraction, count)):
        raise BegatError(
            f"splits.{kind}s: expected at most {maximum}, the number of subsets of "
            f"{subset_size(units, fraction)} of {units} units; found {count}"
        )
