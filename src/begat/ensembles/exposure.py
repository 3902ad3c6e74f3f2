"""Exposure of models to training units: group exposure, cluster shares, means over models."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from begat.errors import BegatError


def group_exposure(
    member_of: Bool[np.ndarray, "group image"], train_mask: Bool[np.ndarray, "model image"]
) -> Bool[np.ndarray, "group model"]:
    """Returns whether each model was trained on any image of each group."""
    return (member_of.astype(np.int64) @ train_mask.T.astype(np.int64)) > 0


def check_exposure(
    codes: Bool[np.ndarray, "group member"],
    membership: Iterable[Sequence[int]],
    group_names: Sequence[str],
) -> None:
    """Raise BegatError where fewer members would train on a group than its code says.

    A member trains on an image if its code includes all the image's groups. So a group all of
    whose images are in other groups too is trained on by fewer members than its code includes, and
    groups with unequal numbers of such members cannot be compared.

    Args:
        codes: true where a member's code includes a group.
        membership: for each image, the groups it belongs to.
        group_names: the groups' names.
    """
    exposure = np.zeros_like(codes)
    for groups in {tuple(image_groups) for image_groups in membership}:
        exposure[list(groups)] |= codes[list(groups)].all(0)
    for name, code, exposed in zip(group_names, codes, exposure, strict=True):
        if not np.array_equal(code, exposed):
            raise BegatError(
                f"splits.group_members: expected {code.sum()} members to train on group {name!r}, "
                f"as its code says, found {exposed.sum()}: its images are all in other groups too; "
                "take groups of one kind, or 0 members"
            )


def even_shares(cluster: Int[np.ndarray, " image"]) -> Float[np.ndarray, " image"]:
    """Returns 1 over the number of images in each image's cluster of near-duplicates.

    The score of a whole cluster, repeated for each of its images, is multiplied by this wherever
    scores of images are summed.
    """
    _, unit, size = np.unique(cluster, return_inverse=True, return_counts=True)
    return 1 / size[unit]


def mean_over_trained(
    values: Sequence[Float[np.ndarray, "*row _"]], train_mask: Bool[np.ndarray, "model unit"]
) -> Float[np.ndarray, "*row unit"]:
    """Returns each unit's mean over the models that were trained on it, 0 where none was.

    Args:
        values: of each model, for the units it was trained on, in their order.
        train_mask: true where a model was trained on a unit.
    """
    total = np.zeros((*values[0].shape[:-1], train_mask.shape[1]))
    for rows, mask in zip(values, train_mask, strict=True):
        total[..., mask] += rows
    return total / np.maximum(train_mask.sum(0), 1)
