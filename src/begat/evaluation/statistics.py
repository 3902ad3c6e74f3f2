"""Correlation, LDS, false discovery rates, and standard errors over shared draws."""

import numpy as np
from jaxtyping import Float, Shaped
from scipy.stats import false_discovery_control, rankdata

Predicted = Float[np.ndarray, "subset query"]
Measured = Float[np.ndarray, "subset seed query"]


def correlation(
    a: Float[np.ndarray, "*#rest n"], b: Float[np.ndarray, "*#rest n"]
) -> Float[np.ndarray, "..."]:
    """Returns Pearson's correlation along the last axis; 0 where a side is constant."""
    a = a - a.mean(-1, keepdims=True)
    b = b - b.mean(-1, keepdims=True)
    norm = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.divide((a * b).sum(-1), norm, out=np.zeros(norm.shape), where=norm > 0)


def spearman(
    a: Float[np.ndarray, "*#rest n"], b: Float[np.ndarray, "*#rest n"]
) -> Float[np.ndarray, "..."]:
    """Returns Spearman's rank correlation along the last axis, ties at their mean rank."""
    return correlation(rankdata(a, axis=-1), rankdata(b, axis=-1))


def q_values(p_value: Float[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
    """Returns q-values: the false discovery rate at which each p-value is significant.

    Benjamini and Hochberg 1995; valid under positive dependence.
    """
    return false_discovery_control(p_value, method="bh")


def error_over_draws(values: Float[np.ndarray, "*rest draw"]) -> Float[np.ndarray, "*rest"]:
    """Returns the standard error of the mean over shared draws, antithetic pairs counted as one.

    0 where there is one pair only, which has no variance.
    """
    pairs = values.reshape(*values.shape[:-1], -1, 2).mean(-1)
    if pairs.shape[-1] < 2:
        return pairs[..., 0] * 0
    return pairs.std(-1, ddof=1) / np.sqrt(pairs.shape[-1])


def removed_sum(
    score: Float[np.ndarray, "query unit"], removed: Shaped[np.ndarray, "subset unit"]
) -> Predicted:
    """Returns the loss that scores predict for each subset: the sum of the removed units' scores.

    ``removed`` is true, or a weight, where the subset lacks the unit.
    """
    return removed.astype(score.dtype) @ score.T


def lds(predicted: Predicted, measured: Measured) -> Float[np.ndarray, " query"]:
    """Returns the linear datamodelling score per query: the rank correlation over subsets.

    Measured losses are averaged over seeds first. Source: Park et al., arXiv 2303.14186, eq. 4.
    """
    return spearman(predicted.T, measured.mean(1).T)


def reliability(measured: Measured) -> float:
    """Returns the correlation over subsets between two seeds, mean over queries and seed pairs."""
    seeds = measured.shape[1]
    pairs = [(i, j) for i in range(seeds) for j in range(i)]
    return float(np.mean([correlation(measured[:, i].T, measured[:, j].T) for i, j in pairs]))
