"""Agreement between scores and retraining: rank correlations, their ceilings and their spread."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

Predicted = Float[np.ndarray, "subset query"]
Measured = Float[np.ndarray, "subset seed query"]


def correlation(
    a: Float[np.ndarray, "*#rest n"], b: Float[np.ndarray, "*#rest n"]
) -> Float[np.ndarray, "..."]:
    """Pearson correlation along the last axis; 0 where a side is constant: it predicts nothing."""
    a = a - a.mean(-1, keepdims=True)
    b = b - b.mean(-1, keepdims=True)
    norm = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.divide((a * b).sum(-1), norm, out=np.zeros(norm.shape), where=norm > 0)


def spearman(
    a: Float[np.ndarray, "*#rest n"], b: Float[np.ndarray, "*#rest n"]
) -> Float[np.ndarray, "..."]:
    """Rank correlation along the last axis, ties at their mean rank."""
    return correlation(rankdata(a, axis=-1), rankdata(b, axis=-1))


def error_over_draws(values: Float[np.ndarray, "*rest draw"]) -> Float[np.ndarray, "*rest"]:
    """Standard error of the mean over shared draws, antithetic pairs counted as one.

    0 where there is one pair only: it cannot tell.
    """
    pairs = values.reshape(*values.shape[:-1], -1, 2).mean(-1)
    if pairs.shape[-1] < 2:
        return pairs[..., 0] * 0
    return pairs.std(-1, ddof=1) / np.sqrt(pairs.shape[-1])


def removed_sum(
    score: Float[np.ndarray, "query unit"], removed: Float[np.ndarray, "subset unit"]
) -> Predicted:
    """The loss a score predicts for each subset: the sum of the removed units' scores."""
    return removed @ score.T


def lds(predicted: Predicted, measured: Measured) -> Float[np.ndarray, " query"]:
    """Linear datamodelling score: rank correlation over subsets, one value per query.

    Measured losses are averaged over seeds first. Source: Park et al., arXiv 2303.14186, eq. 4.
    """
    return spearman(predicted.T, measured.mean(1).T)


def reliability(measured: Measured) -> float:
    """Mean correlation over subsets between two seeds of one truth, over queries and seed pairs."""
    seeds = measured.shape[1]
    pairs = [(i, j) for i in range(seeds) for j in range(i)]
    return float(np.mean([correlation(measured[:, i].T, measured[:, j].T) for i, j in pairs]))


def ceiling(measured: Measured) -> float:
    """What a perfect predictor of the expected loss would score against these seeds' mean.

    With one seed's reliability r, the mean of n seeds has reliability nr / (1 + (n-1) r)
    (Spearman-Brown), and the expectation correlates with it as the square root of that.
    """
    r, n = max(reliability(measured), 0.0), measured.shape[1]
    return float(np.sqrt(n * r / (1 + (n - 1) * r)))


def half_samples(
    statistic: Callable[..., Float[np.ndarray, "*shape"]],
    sizes: Sequence[int],
    generator: np.random.Generator,
    resamples: int,
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "resample *shape"]]:
    """A statistic of crossed axes, and its deviations on halves drawn without replacement.

    ``statistic`` takes the indices kept on each axis (subsets and queries, say). All axes are
    halved at once, because all queries share the same subset models and all subsets the same
    queries; halves without replacement keep ties out, which a bootstrap would make. A half
    deviates from the whole as the whole does from what endless data would give, so the root mean
    square deviation is a standard error. Statistics of several methods share their halves: the
    deviations of their differences are those of paired comparisons.
    """

    def half(n: int) -> np.ndarray:
        return generator.permutation(n)[: max(n // 2, min(n, 2))]

    whole = statistic(*[np.arange(n) for n in sizes])
    halves = [statistic(*[half(n) for n in sizes]) for _ in range(resamples)]
    return whole, np.stack(halves) - whole


def interval(value: float, deviations: Float[np.ndarray, " resample"]) -> dict[str, float]:
    """The value with its standard error and 95 % interval, from ``half_samples``."""
    error = float(np.sqrt(np.mean(deviations**2)))
    return {
        "value": float(value),
        "error": error,
        "low": float(value) - 1.96 * error,
        "high": float(value) + 1.96 * error,
    }


def permutation_p(
    predicted: Predicted, measured: Measured, generator: np.random.Generator, permutations: int
) -> float:
    """How often shuffled subsets agree at least as well: one shuffle for all queries at once."""
    found = lds(predicted, measured).mean()
    shuffled = [
        lds(predicted[generator.permutation(len(predicted))], measured).mean()
        for _ in range(permutations)
    ]
    return float((1 + np.sum(np.array(shuffled) >= found)) / (1 + permutations))
