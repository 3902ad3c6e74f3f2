"""The noise ceiling of LDS: the score of a perfect predictor against noisy retraining.

A query's losses over subsets are signal plus the noise of training. With n seeds a *reliability*
r = signal variance / (signal variance + noise variance / n) is the share of signal in the variance
of their mean. The perfect predictor, the signal itself, then has a rank correlation with the mean
that depends on r and on the number of subsets only; it is simulated. Reliabilities differ between
queries, and those of single queries are too uncertain to be plugged in (the root of a noisy
estimate is biased), so their distribution over queries is estimated.
"""

import numpy as np
from jaxtyping import Float
from scipy.stats import f as f_distribution

from begat.evaluation.statistics import Measured, spearman

RELIABILITIES = np.append(np.linspace(0, 0.975, 40), 0.999)
SIMULATED_SUBSETS = 24_000  # for each reliability, over all simulated queries
EM_STEPS = 200  # of expectation maximisation; more change the ceiling by less than .01


def expected_correlations(
    subsets: int, generator: np.random.Generator
) -> Float[np.ndarray, " reliability"]:
    """Returns the mean rank correlation of signal and measurement for each of ``RELIABILITIES``.

    Simulated with normal signal and noise, over this many subsets.
    """
    queries = max(SIMULATED_SUBSETS // subsets, 100)
    signal, noise = generator.normal(size=(2, queries, subsets))
    measured = [np.sqrt(r) * signal + np.sqrt(1 - r) * noise for r in RELIABILITIES[1:]]
    return np.array([0.0, *(spearman(signal, m).mean() for m in measured)])


def reliability_distribution(measured: Measured) -> Float[np.ndarray, " reliability"]:
    """Returns the share of queries with each of ``RELIABILITIES``, by maximum likelihood.

    Per query the variance between subsets over that within them, times 1 - r, follows Fisher's F
    distribution. The shares are estimated by expectation maximisation (Kiefer & Wolfowitz 1956;
    Laird 1978).
    """
    subsets, seeds = measured.shape[:2]
    between = seeds * measured.mean(1).var(0, ddof=1)
    within = measured.var(1, ddof=1).mean(0)
    largest = 1 / (1 - RELIABILITIES[-1])
    ratio = np.divide(between, within, out=np.full(len(within), largest), where=within > 0)
    ratio = np.clip(np.where(between > 0, ratio, 0), 1e-3, largest)  # both may be 0
    degrees = subsets - 1, subsets * (seeds - 1)
    scaled = np.log(ratio)[:, None] + np.log1p(-RELIABILITIES)
    log_density = f_distribution.logpdf(np.exp(scaled), *degrees) + np.log1p(-RELIABILITIES)
    density = np.exp(log_density - log_density.max(1, keepdims=True))
    share = np.full(len(RELIABILITIES), 1 / len(RELIABILITIES))
    for _ in range(EM_STEPS):
        posterior = density * share
        share = (posterior / posterior.sum(1, keepdims=True)).mean(0)
    return share


def noise_ceiling(measured: Measured, correlations: Float[np.ndarray, " reliability"]) -> float:
    """Returns the LDS of a perfect predictor of the expected loss against the mean over seeds.

    Args:
        measured: losses of several seeds of every subset.
        correlations: from ``expected_correlations``.
    """
    return float(reliability_distribution(measured) @ correlations)
