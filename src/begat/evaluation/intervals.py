"""Standard errors by half samples, and p-values by shuffled names of units."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

FEWEST = 4  # entries on every axis; of fewer, halves say too little for an interval
ROUNDING = 1e-9  # rank correlations closer than this are equal
Row = dict[str, Any]


def half_samples(
    statistic: Callable[..., Float[np.ndarray, "*shape"]],
    sizes: Sequence[int],
    generator: np.random.Generator,
    resamples: int,
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "resample *shape"]]:
    """A statistic of crossed axes, and how it deviates on halves drawn without replacement.

    ``statistic`` takes the indices kept on each axis (subsets and queries, say). All axes are
    halved at once, because all queries share the same subset models and all subsets the same
    queries; what is nested in an entry (the seeds of a subset) stays with it. Halves without
    replacement keep ties out, which a bootstrap would make. A half deviates from the mean of all
    halves as the whole does from what endless data would give, so the standard deviation over
    halves is a standard error; a statistic that is larger or smaller for fewer entries (top-1 among
    half the groups) does not widen it. Statistics of several methods share their halves: the
    deviations of their differences are those of paired comparisons.

    Returns:
        The statistic, and its deviations: none where an axis has less than ``FEWEST`` entries.
    """
    whole = statistic(*[np.arange(n) for n in sizes])
    if min(sizes) < FEWEST:
        return whole, np.zeros((0, *whole.shape))
    halves = np.stack([statistic(*[_half(n, generator) for n in sizes]) for _ in range(resamples)])
    return whole, halves - halves.mean(0)


def _half(n: int, generator: np.random.Generator) -> np.ndarray:
    """Half of n entries. The mean of h of them has 1/h - 1/n of the variance of one; of odd n the
    larger half is drawn with probability (n + 1) / 2n, which makes that 1/n on average.
    """
    larger = n % 2 and generator.random() < (n + 1) / (2 * n)
    return generator.permutation(n)[: n // 2 + int(larger)]


def interval(value: float, deviations: Float[np.ndarray, " resample"]) -> Row:
    """The value with its standard error and 95 % interval; None where there are no deviations."""
    if not len(deviations):
        return {"value": float(value), "error": None, "low": None, "high": None}
    error = float(np.sqrt((deviations**2).sum() / (len(deviations) - 1)))
    low, high = float(value) - 1.96 * error, float(value) + 1.96 * error
    return {"value": float(value), "error": error, "low": low, "high": high}


def shuffles(units: int, generator: np.random.Generator, count: int) -> list[np.ndarray]:
    """Random orders of the units, to be applied to the scores of all queries at once.

    Scores whose units have exchanged their names know nothing of retraining, and keep all else:
    their sizes, what queries have in common, which units each subset lacks. So the p-value is right
    however much subsets overlap and queries resemble one another.
    """
    return [generator.permutation(units) for _ in range(count)]


def p_value(value: float, shuffled: Float[np.ndarray, " shuffle"]) -> float:
    """How often shuffled names do at least as well."""
    return float((1 + np.sum(shuffled >= value - ROUNDING)) / (1 + len(shuffled)))


def compared(
    methods: Sequence[str],
    values: Float[np.ndarray, " method"],
    deviations: Float[np.ndarray, "resample method"],
    shuffled: Float[np.ndarray, "shuffle method"],
    references: Mapping[str, str],
) -> dict[str, Row]:
    """Per method its value, interval and p, and its paired difference from each reference.

    The p of a difference is two-sided: how often two methods that know nothing, but resemble each
    other as these do, differ as much.

    Args:
        methods: the names of the columns.
        values, deviations: from ``half_samples``.
        shuffled: the values under each of the same ``shuffles``.
        references: name of the difference -> the method subtracted.
    """
    rows: dict[str, Row] = {}
    for i, method in enumerate(methods):
        rows[method] = interval(values[i], deviations[:, i])
        rows[method]["p"] = p_value(values[i], shuffled[:, i])
        for name, reference in references.items():
            if reference in methods and reference != method:
                j = list(methods).index(reference)
                apart = float(values[i] - values[j])
                rows[method][name] = {
                    **interval(apart, deviations[:, i] - deviations[:, j]),
                    "p": p_value(abs(apart), np.abs(shuffled[:, i] - shuffled[:, j])),
                }
    return rows
