"""Which models were trained on any image of a unit."""

import numpy as np
from jaxtyping import Bool


def groups_seen(
    member_of: Bool[np.ndarray, "group image"], trains_on: Bool[np.ndarray, "model image"]
) -> Bool[np.ndarray, "group model"]:
    """Whether each model was trained on any image of each group."""
    return (member_of.astype(np.int64) @ trains_on.T.astype(np.int64)) > 0
