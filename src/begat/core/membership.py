"""Which models were trained on a unit, and means over those that were."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float


def groups_seen(
    member_of: Bool[np.ndarray, "group image"], trains_on: Bool[np.ndarray, "model image"]
) -> Bool[np.ndarray, "group model"]:
    """Whether each model was trained on any image of each group."""
    return (member_of.astype(np.int64) @ trains_on.T.astype(np.int64)) > 0


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
