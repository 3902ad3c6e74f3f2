"""The truth at group level: retrain without the group, and measure."""

import numpy as np
from jaxtyping import Float

from begat.core.statistics import error_over_draws

METHODS = ["logo_retrained", "logo_paired", "logo_independent"]


def methods(seeds: int) -> list[str]:
    """The rows that so many trainings per group give."""
    return METHODS if seeds > 1 else METHODS[:1]


def score(
    full: Float[np.ndarray, "seed query draw"], without: Float[np.ndarray, "group seed query draw"]
) -> dict[str, Float[np.ndarray, "method query group"]]:
    """Loss of the model retrained without each group minus loss of the full model.

    Mean over seeds; of the first seed, which shares initialisation, batches and noise with the full
    model that methods look into (``paired``); and mean of the other seeds, which share nothing with
    it (``independent``). In every seed the full model and the model without a group are paired, and
    so are the draws they are measured by. ``group_uncertainty`` is the standard error of the mean
    over draws, antithetic pairs counted as one; with one seed it says nothing of how another
    training would differ.
    """
    difference = without - full
    error = error_over_draws(difference)
    seeds = difference.shape[1]
    parts = [slice(None), slice(1), slice(1, None)][: len(methods(seeds))]
    spread = [np.sqrt((error[:, p] ** 2).mean(1) / error[:, p].shape[1]).T for p in parts]
    return {
        "group_score": np.stack([difference[:, p].mean((1, 3)).T for p in parts]),
        "group_uncertainty": np.stack(spread),
    }
