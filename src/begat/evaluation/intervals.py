"""Confidence intervals by half-sampling of crossed axes, and p-values by permuting units."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

MIN_ENTRIES = 4  # on every axis; halves of fewer are too small for an interval
LEVEL = 0.05  # largest p-value of a significant result
ROUNDING = 1e-9  # rank correlations closer than this are equal
Row = dict[str, Any]


def half_sampling(
    statistic: Callable[..., Float[np.ndarray, "*shape"]],
    sizes: Sequence[int],
    generator: np.random.Generator,
    resamples: int,
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "resample *shape"]]:
    """Returns a statistic of crossed axes, and its deviations on halves without replacement.

    All axes are halved at once, because all queries share the same subset models and all subsets
    the same queries; what is nested in an entry (the seeds of a subset) stays with it. Halves
    without replacement (a delete-half jackknife) create no ties, as a bootstrap would. A half
    deviates from the mean of all halves as the whole does from its expectation, so the standard
    deviation over halves is a standard error; a statistic that depends on the number of entries
    (top-1 among half the groups) does not widen it. Statistics of several methods share their
    halves: the deviations of their differences are those of paired comparisons.

    Args:
        statistic: of one array of indices per axis (subsets and queries, say).
        sizes: number of entries of each axis.
        generator: of the halves.
        resamples: number of halves.

    Returns:
        The statistic, and its deviations: none where an axis has less than ``MIN_ENTRIES``.
    """
    whole = statistic(*[np.arange(n) for n in sizes])
    if min(sizes) < MIN_ENTRIES:
        return whole, np.zeros((0, *whole.shape))
    halves = [[_random_half(n, generator) for n in sizes] for _ in range(resamples)]
    values = np.stack([statistic(*indices) for indices in halves])
    return whole, values - values.mean(0)


def _random_half(n: int, generator: np.random.Generator) -> np.ndarray:
    """Returns the indices of a random half of n entries.

    The mean of h of n has the variance 1/h - 1/n, in units of one entry's. For odd n the larger
    half is drawn with probability (n + 1) / 2n, which makes that 1/n on average.
    """
    larger = n % 2 and generator.random() < (n + 1) / (2 * n)
    return generator.permutation(n)[: n // 2 + int(larger)]


def confidence_interval(value: float, deviations: Float[np.ndarray, " resample"]) -> Row:
    """Returns the value, its standard error and 95 % interval; None where there are no deviations.

    Args:
        value: of the statistic.
        deviations: from ``half_sampling``.
    """
    if not len(deviations):
        return {"value": float(value), "error": None, "low": None, "high": None}
    error = float(np.sqrt((deviations**2).sum() / (len(deviations) - 1)))
    low, high = float(value) - 1.96 * error, float(value) + 1.96 * error
    return {"value": float(value), "error": error, "low": low, "high": high}


def unit_permutations(units: int, generator: np.random.Generator, count: int) -> list[np.ndarray]:
    """Returns random orders of the units, to be applied to the scores of all queries at once.

    Scores of permuted units are independent of retraining, with all else unchanged: their sizes,
    what queries have in common, which units each subset lacks. So the p-value is valid however
    much subsets overlap and queries resemble one another.
    """
    return [generator.permutation(units) for _ in range(count)]


def permutation_p_value(value: float, permuted: Float[np.ndarray, " permutation"]) -> float:
    """Returns the share of permutations, the identity included, that reach the value."""
    return float((1 + np.sum(permuted >= value - ROUNDING)) / (1 + len(permuted)))


def compare_methods(
    methods: Sequence[str],
    values: Float[np.ndarray, " method"],
    deviations: Float[np.ndarray, "resample method"],
    permuted: Float[np.ndarray, "permutation method"],
    baselines: Mapping[str, str],
) -> dict[str, Row]:
    """Returns per method its value, interval and p, and its paired difference from each baseline.

    The p of a difference is two-sided: the share of permutations in which two methods, without any
    relation to retraining but as similar to each other as these, differ as much.

    Args:
        methods: the names of the columns.
        values, deviations: from ``half_sampling``.
        permuted: the values under each of the same ``unit_permutations``.
        baselines: name of the difference -> the method subtracted.
    """
    rows: dict[str, Row] = {}
    column = {method: i for i, method in enumerate(methods)}
    for method, i in column.items():
        row = confidence_interval(values[i], deviations[:, i])
        row["p"] = permutation_p_value(values[i], permuted[:, i])
        for name, baseline in baselines.items():
            if baseline in column and baseline != method:
                j = column[baseline]
                difference = float(values[i] - values[j])
                null = np.abs(permuted[:, i] - permuted[:, j])
                row[name] = confidence_interval(difference, deviations[:, i] - deviations[:, j])
                row[name]["p"] = permutation_p_value(abs(difference), null)
        rows[method] = row
    return rows
