"""Which models were trained on a unit, which images are one unit, and means over models."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from begat.errors import BegatError


def groups_seen(
    member_of: Bool[np.ndarray, "group image"], trains_on: Bool[np.ndarray, "model image"]
) -> Bool[np.ndarray, "group model"]:
    """Whether each model was trained on any image of each group."""
    return (member_of.astype(np.int64) @ trains_on.T.astype(np.int64)) > 0


def check_exposure(
    codes: Bool[np.ndarray, "group member"],
    membership: Iterable[Sequence[int]],
    group_names: Sequence[str],
) -> None:
    """Raise BegatError where fewer members would train on a group than its code says.

    A member trains on an image where it has all the image's groups. A group all of whose images
    are in other groups too is thus seen by fewer members than hold it, and groups seen by unequal
    numbers of members cannot be compared.

    Args:
        codes: which member holds which group.
        membership: for each image, the groups it belongs to.
        group_names: the groups' names.
    """
    seen = np.zeros_like(codes)
    for groups in {tuple(of) for of in membership}:
        seen[list(groups)] |= codes[list(groups)].all(0)
    for name, code, found in zip(group_names, codes, seen, strict=True):
        if not np.array_equal(code, found):
            raise BegatError(
                f"splits.group_members: expected {code.sum()} members to train on group {name!r}, "
                f"as its code says, found {found.sum()}: its images are all in other groups too; "
                "take groups of one kind, or 0 members"
            )


def even_shares(cluster: Int[np.ndarray, " image"]) -> Float[np.ndarray, " image"]:
    """What each image is of its cluster of near-duplicates: 1 over the number of images in it.

    A score of the whole cluster, handed to each of its images, is multiplied by this wherever
    scores of images are summed.
    """
    _, unit, size = np.unique(cluster, return_inverse=True, return_counts=True)
    return 1 / size[unit]


def mean_over_trained(
    values: Sequence[Float[np.ndarray, "*row _"]], trained_on: Bool[np.ndarray, "model unit"]
) -> Float[np.ndarray, "*row unit"]:
    """Each unit's mean over the models that were trained on it, 0 where none was.

    Args:
        values: of each model, for the units it was trained on, in their order.
        trained_on: which these are.
    """
    total = np.zeros((*values[0].shape[:-1], trained_on.shape[1]))
    for rows, own in zip(values, trained_on, strict=True):
        total[..., own] += rows
    return total / np.maximum(trained_on.sum(0), 1)
