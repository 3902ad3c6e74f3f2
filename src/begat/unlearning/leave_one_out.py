"""Ground truth of group scores: models retrained without each group, measured on the queries."""

import numpy as np
from jaxtyping import Float, Int

from begat.diffusion.elbo import nats
from begat.evaluation.measures import LOSS, NATS, Measure
from begat.evaluation.statistics import error_over_draws

TRAININGS = ["retrained", "paired", "independent"]
Differences = Float[np.ndarray, "group seed query draw"]


def methods(seeds: int) -> dict[str, Measure]:
    """Returns the methods that exist with this number of seeds per group, with their measures."""
    trainings = TRAININGS if seeds > 1 else TRAININGS[:1]
    in_nats = {f"logo_elbo_{name}": NATS for name in trainings}
    return {f"logo_{name}": LOSS for name in trainings} | in_nats


def score(
    full: Float[np.ndarray, "seed query draw"],
    without: Differences,
    timestep: Int[np.ndarray, "query draw"],
    weights: Float[np.ndarray, " timestep"],
    dimensions: int,
) -> dict[str, Float[np.ndarray, "method query group"]]:
    """Returns the measurement under the model retrained without a group minus that under the full.

    In the order of ``methods``: the mean loss, and the negative ELBO in nats, of the same draws.
    Of each the mean over seeds; the first seed's, which shares initialisation, batches and noise
    with the full model that other methods attribute (``paired``); and the mean of the other seeds,
    which share nothing with it (``independent``). In every seed the full model and the model
    without a group are paired, and so are the draws of their measurements. ``group_uncertainty``
    is the standard error of the mean, from ``error_over_draws_and_seeds``.

    Args:
        full: losses of the full models.
        without: losses of the models retrained without each group, on the same draws.
        timestep: the draws' timesteps, from the measurements.
        weights: of the ELBO, from ``diffusion.elbo.elbo_weights``.
        dimensions: pixels times channels.
    """
    difference = without - full
    in_nats = nats(difference, weights, timestep, dimensions)
    trainings = len(methods(len(full))) // 2
    seeds_of_training = [slice(None), slice(1), slice(1, None)][:trainings]
    parts = [values[:, seeds] for values in (difference, in_nats) for seeds in seeds_of_training]
    return {
        "group_score": np.stack([part.mean((1, 3)).T for part in parts]),
        "group_uncertainty": np.stack([error_over_draws_and_seeds(part).T for part in parts]),
    }


def error_over_draws_and_seeds(
    difference: Differences,
) -> Float[np.ndarray, "group query"]:
    """Returns the standard error of the mean over draws and seeds, both of which are samples.

    All seeds are measured by the same draws, so draws are crossed with seeds: the squared error of
    the seeds' mean over draws, plus that of the draws' mean over seeds, less the noise of single
    cells that both contain (the analysis of variance with two random factors). It is never less
    than the first, the only one that can be estimated from one seed, which does not include how
    another training would differ.
    """
    seeds = difference.shape[1]
    over_draws = error_over_draws(difference.mean(1)) ** 2  # [group, query]
    if seeds < 2:
        return np.sqrt(over_draws)
    over_seeds = difference.mean(-1).var(1, ddof=1) / seeds
    centred = difference - difference.mean(1, keepdims=True)
    both = (error_over_draws(centred) ** 2).sum(1) / (seeds * (seeds - 1))
    return np.sqrt(np.maximum(over_draws + over_seeds - both, over_draws))
