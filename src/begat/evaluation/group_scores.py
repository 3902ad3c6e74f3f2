"""From units to groups: one table for all methods."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

Row = tuple[Float[np.ndarray, "query group"], Float[np.ndarray, "query group"]]


def group_rows(
    methods: Sequence[str],
    group_methods: Sequence[str],
    scores: Mapping[str, Float[np.ndarray, "method query unit"]],
    member_of: Bool[np.ndarray, "group image"],
) -> dict[str, Row]:
    """Every method's group scores and their uncertainty, by the name of the row.

    A method that scores groups itself is taken at its word; one that scores images gives each
    group the sum over its images. One that does both has two rows, the second named ``..._summed``.

    Args:
        methods: the names along the first axis of image scores.
        group_methods: of group scores.
        scores: arrays of the ``scores`` schema, image scores as they may be summed: where they are
            of whole clusters of near-duplicates, each image's even share.
        member_of: which image belongs to which group.
    """
    rows: dict[str, Row] = {}
    if "group_score" in scores:
        found = zip(scores["group_score"], scores["group_uncertainty"], strict=True)
        rows |= dict(zip(group_methods, found, strict=True))
    if "score" in scores:
        found = zip(*summed(scores["score"], member_of), strict=True)
        for method, row in zip(methods, found, strict=True):
            rows[f"{method}_summed" if method in rows else method] = row
    return rows


def summed(
    score: Float[np.ndarray, "method query image"], member_of: Bool[np.ndarray, "group image"]
) -> tuple[Float[np.ndarray, "method query group"], Float[np.ndarray, "method query group"]]:
    """Group scores as sums over images (in float64), and how much of that chance could make.

    The second is the standard deviation of the sum over *random* images, as many as the group has,
    drawn without replacement: m (1 - (m-1)/(N-1)) times the variance of the image scores.
    """
    images, size = score.shape[-1], member_of.sum(1)
    total = score.astype(np.float64) @ member_of.T.astype(np.float64)
    chance = size * (1 - (size - 1) / max(images - 1, 1))
    spread = score.astype(np.float64).var(-1, keepdims=True)
    return total, np.sqrt(chance * spread)
