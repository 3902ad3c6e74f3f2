"""Calibration of group scores: their size and linear agreement against retraining."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from begat.evaluation.intervals import Row, confidence_interval, half_sampling
from begat.evaluation.statistics import correlation
from begat.rng.seeds import numpy_generator

Table = Float[np.ndarray, "query group"]
Tables = Float[np.ndarray, "method query group"]


def calibration(
    scores: Mapping[str, Table], truth: Table, *, name: str, seed: int, resamples: int
) -> dict[str, dict[str, Row | float]]:
    """Returns ``ratio``, ``slope`` and ``correlation`` of every method, over queries and groups.

    With s the scores and T the measured differences: ``ratio`` is the standard deviation of s over
    that of T, so above 1 where scores are too large; ``slope`` is b of the least squares T = b s,
    through zero since a score of 0 means no effect; ``correlation`` is Pearson's. Noise in s lowers
    b and the correlation and raises the ratio; noise of the retraining lowers ratio and
    correlation. The values of another training of the same groups bound what can be expected.

    Args:
        scores: method -> group scores.
        truth: difference of the measurement under models retrained without each group.
        name: of the ground truth, for its random numbers.
        seed: the root seed.
        resamples: half-samples of queries and groups for the intervals.

    Returns:
        Method -> its values, without methods of constant scores; empty for a constant truth.
    """
    table = {method: s.astype(np.float64) for method, s in scores.items() if np.ptp(s) > 0}
    if not table or not np.ptp(truth) > 0:
        return {}
    stacked = np.stack(list(table.values()))

    def fits(queries: np.ndarray, groups: np.ndarray) -> Float[np.ndarray, "fit method"]:
        return _fits(stacked[:, queries][:, :, groups], truth[queries][:, groups])

    generator = numpy_generator(seed, "metrics", name, "calibration")
    values, deviations = half_sampling(fits, truth.shape, generator, resamples)
    return {
        method: {
            "ratio": float(stacked[i].std() / truth.std()),
            "slope": confidence_interval(values[0, i], deviations[:, 0, i]),
            "correlation": confidence_interval(values[1, i], deviations[:, 1, i]),
        }
        for i, method in enumerate(table)
    }


def _fits(scores: Tables, truth: Table) -> Float[np.ndarray, "fit method"]:
    """Returns the slope through zero and the correlation; 0 where scores are 0, or all the same."""
    flat, target = scores.reshape(len(scores), -1), truth.reshape(-1).astype(np.float64)
    square = (flat**2).sum(1)
    slope = np.divide(flat @ target, square, out=np.zeros(len(flat)), where=square > 0)
    return np.stack([slope, correlation(flat, target[None])])
