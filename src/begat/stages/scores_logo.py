"""The truth at group level: retrain without the group, and measure."""

import numpy as np
from jaxtyping import Float

from begat.core.statistics import error_over_draws

METHODS = ["logo_retrained"]


def score(
    full: Float[np.ndarray, "seed query draw"], without: Float[np.ndarray, "group seed query draw"]
) -> dict[str, Float[np.ndarray, "method query group"]]:
    """Loss of the model retrained without each group minus loss of the full model.

    The two share initialisation, batches and noise (``paired``), and the draws they are measured
    by. ``group_uncertainty`` is the standard error of the mean over draws, antithetic pairs counted
    as one, and over seeds; with one seed it says nothing of how another training would differ.
    """
    difference = without - full
    error = error_over_draws(difference)
    return {
        "group_score": difference.mean((1, 3)).T[None],
        "group_uncertainty": np.sqrt((error**2).mean(1) / difference.shape[1]).T[None],
    }
