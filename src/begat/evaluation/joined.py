"""Joined scores: weighted sums of the scores of several methods, its *parts*.

Scores of different methods have different units. So the scores of a query are first divided by
their standard deviation over the units. Then they are added, with one of three kinds of weights:

- equal ones (``unit_variance_sum``);
- the inverse of the variance that the standard errors state (``error_weights``);
- those that fit differences measured by retraining (``stacking_weights``).

Only the last need a ground truth. ``evaluation.joined_agreement`` fits and tests them.
"""

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

Parts = Float[np.ndarray, "part query unit"]
Sum = Float[np.ndarray, "query unit"]


def spread(score: Float[np.ndarray, "*rest unit"]) -> Float[np.ndarray, "*rest 1"]:
    """Returns the standard deviation over the units in float64; 0 where all are the same."""
    deviation = score.astype(np.float64).std(-1, keepdims=True)
    constant = score.max(-1, keepdims=True) == score.min(-1, keepdims=True)
    return np.where(constant, 0.0, deviation)


def unit_variance(score: Float[np.ndarray, "*rest unit"]) -> Float[np.ndarray, "*rest unit"]:
    """Returns scores divided by their standard deviation over the units; 0 where it is 0.

    They are not centred: scores are summed over groups and subsets, which may differ in size.
    """
    return _divided(score, spread(score))


def unit_variance_sum(scores: Parts, errors: Parts) -> tuple[Sum, Sum]:
    """Returns the sum of the parts at unit variance, and its standard deviation.

    Args:
        scores: of the parts.
        errors: their standard deviations, as if independent of one another.
    """
    return _weighted_sum(scores, errors, np.ones(scores.shape[:2]))


def error_weighted_sum(scores: Parts, errors: Parts) -> tuple[Sum, Sum]:
    """Returns the mean of the parts at unit variance, weighted by ``error_weights``; its error."""
    return _weighted_sum(scores, errors, error_weights(scores, errors))


def error_weights(scores: Parts, errors: Parts) -> Float[np.ndarray, "part query"]:
    """Returns weights inverse to the mean variance of a part's scores at unit variance; sum 1.

    If the parts are equal up to scale and independent errors, no other weights have a lower
    variance. A part without an error, or with the same score for all units, has the weight 0.

    Args:
        scores: of the parts.
        errors: their standard errors.
    """
    variance = (errors.astype(np.float64) ** 2).mean(-1)
    precision = _divided(spread(scores)[..., 0] ** 2, variance)
    return _divided(precision, precision.sum(0))


def stacking_weights(
    predicted: Float[np.ndarray, "part subset query"], measured: Float[np.ndarray, "subset query"]
) -> Float[np.ndarray, " part"]:
    """Returns the weights, none below 0, with which predictions fit the losses measured; sum 1.

    Least squares over all queries and subsets, with an intercept for each query. The losses of
    each query have unit variance over the subsets, so that every query counts as much as in the
    LDS. All weights are 0 where no part has a positive relation to the losses. The scale of the
    weights has no meaning for ranks, so they are divided by their sum. Source: stacked regression
    with non-negative weights, Breiman, Machine Learning 24 (1996).

    Args:
        predicted: by each part, for each subset; the scores of a part at unit variance.
        measured: losses.
    """
    target = unit_variance((measured - measured.mean(0)).T).T
    design = predicted - predicted.mean(1, keepdims=True)
    weights, _ = nnls(design.reshape(len(design), -1).T, target.reshape(-1))
    return _divided(weights, weights.sum(keepdims=True))


def _weighted_sum(
    scores: Parts, errors: Parts, weights: Float[np.ndarray, "part query"]
) -> tuple[Sum, Sum]:
    scale = weights[..., None]
    variance = (scale * _divided(errors, spread(scores))) ** 2
    return (scale * unit_variance(scores)).sum(0), np.sqrt(variance.sum(0))


def _divided(values: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """Values divided by a divisor of a shape that broadcasts to theirs; 0 where it is 0."""
    divisor = np.broadcast_to(divisor, values.shape)
    zeros = np.zeros(values.shape)
    return np.divide(values.astype(np.float64), divisor, out=zeros, where=divisor > 0)
