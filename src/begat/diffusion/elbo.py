"""The evidence lower bound of a diffusion model: its weights over time, and losses in nats.

Symbols as in ``diffusion.schedules``, timesteps counted from 0 as in diffusers. The negative ELBO
is a sum over ``t = 1 .. T-1`` of ``weight[t] * |noise - predicted|^2`` (a sum over pixels), plus
two terms left out here: the prior's, which no model changes, and the decoder's at ``t = 0``, where
the weight diverges. Ho et al., arXiv 2006.11239, eq. 5 and 12.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from begat.diffusion.schedules import Schedule

Variance = Literal["posterior", "beta"]
Clipped = Literal["exclude", "cap", "keep"]
MAX_BETA = 0.999  # at which a cosine schedule is clipped


def elbo_weights(
    schedule: Schedule, variance: Variance = "posterior", clipped: Clipped = "exclude"
) -> Float[Tensor, " timestep"]:
    """Returns the weight of the squared noise error in the negative ELBO per timestep, in float64.

    With the reverse variance of the posterior, ``beta[t] / (2 alpha[t] (1 - alpha_bar[t-1]))``;
    with ``beta`` itself ``beta[t] / (2 alpha[t] (1 - alpha_bar[t]))``, a constant aside.

    ``clipped`` is the treatment of timesteps whose beta a cosine schedule clips to 0.999. Their
    weight depends on the clipping threshold, not on the model (the last of 1,000 timesteps holds
    97 % of the sum): ``exclude`` sets it to 0, ``cap`` to the weight of the last timestep that is
    not clipped, ``keep`` leaves it.
    """
    alpha_bar = schedule.alpha_bar
    previous = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    alpha = alpha_bar / previous
    level = previous if variance == "posterior" else alpha_bar
    weights = (1 - alpha) / (2 * alpha * (1 - level))
    weights[0] = 0.0
    is_clipped = 1 - alpha >= MAX_BETA * (1 - 1e-9)
    if clipped != "keep":
        weights[is_clipped] = float(weights[~is_clipped][-1]) if clipped == "cap" else 0.0
    return weights


def nats(
    loss: Float[np.ndarray, "*models query draw"],
    weights: Float[np.ndarray, " timestep"],
    timestep: Int[np.ndarray, "query draw"],
    dimensions: int,
) -> Float[np.ndarray, "*models query draw"]:
    """Returns each draw's estimate of the negative ELBO in nats; their mean is the estimate.

    Draws are uniform over 0 .. T-1 with weight 0 at 0, hence a factor T; draws over 1 .. T-1 would
    take T-1. Weighting a draw by its whole stratum instead of its own timestep was tried and
    reduced no variance of scores.

    Args:
        loss: squared noise error, mean over pixels.
        weights: from ``elbo_weights``.
        timestep: the draws' timesteps.
        dimensions: pixels times channels, over which the ELBO sums.
    """
    return loss.astype(np.float64) * weights[timestep] * (len(weights) * dimensions)


def weight_profile(
    weights: Float[np.ndarray, " timestep"], bands: int = 20
) -> Float[np.ndarray, " band"]:
    """Returns the share of the total weight in each of ``bands`` equal intervals of time."""
    return np.array([band.sum() for band in np.array_split(weights, bands)]) / weights.sum()
