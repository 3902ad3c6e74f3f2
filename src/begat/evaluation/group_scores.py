"""Group scores of all methods, image scores summed over groups."""

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
    """Returns every method's group scores and their uncertainty, by the name of the row.

    Scores of groups are used directly; scores of images are summed over each group's images. A
    method that has both has two rows, the second named ``..._summed``.

    Args:
        methods: the names along the first axis of image scores.
        group_methods: of group scores.
        scores: arrays of the ``scores`` schema; image scores must be additive (a score of a whole
            cluster of near-duplicates divided by the number of its images).
        member_of: true where an image belongs to a group.
    """
    rows: dict[str, Row] = {}
    if "group_score" in scores:
        pairs = zip(scores["group_score"], scores["group_uncertainty"], strict=True)
        rows |= dict(zip(group_methods, pairs, strict=True))
    if "score" in scores:
        pairs = zip(*summed(scores["score"], member_of), strict=True)
        for method, row in zip(methods, pairs, strict=True):
            rows[f"{method}_summed" if method in rows else method] = row
    return rows


def summed(
    score: Float[np.ndarray, "method query image"], member_of: Bool[np.ndarray, "group image"]
) -> tuple[Float[np.ndarray, "method query group"], Float[np.ndarray, "method query group"]]:
    """Returns sums of image scores over groups (in float64), and their deviation by chance.

    The second is the standard deviation of the sum over *random* images, as many as the group has,
    drawn without replacement: its square is m (1 - (m-1)/(N-1)) times the variance of the image
    scores, for m of N images.
    """
    images, size = score.shape[-1], member_of.sum(1)
    total = score.astype(np.float64) @ member_of.T.astype(np.float64)
    factor = size * (1 - (size - 1) / max(images - 1, 1))
    variance = score.astype(np.float64).var(-1, keepdims=True)
    return total, np.sqrt(factor * variance)
