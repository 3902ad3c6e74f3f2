"""The loss of any part of an ensemble, from the members' Gram matrices, and what it says of units.

An ensemble predicts the mean of its members' noises. With r_i the error of member i on a draw,
the loss of the members weighted by w (sum 1) is |sum_i w_i r_i|^2 / D = w' R w, where
R[i, j] = mean over draws and dimensions of r_i r_j. So n forward passes per draw give the exact
loss of all 2^n subsets; no unit needs a network call of its own.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Real
from scipy.special import stdtr

from begat.errors import BegatError

Gram = Float[np.ndarray, "query member member"]
Losses = Float[np.ndarray, "query unit"]
# Which members saw a unit; fractions where a direction of a regression stands in for a unit.
Seen = Bool[np.ndarray, "unit member"] | Real[np.ndarray, "unit member"]


def subset_weights(subset: Seen) -> Float[np.ndarray, "unit member"]:
    """Equal weights on the members of each subset.

    Raises:
        BegatError: a subset is empty.
    """
    size = subset.sum(1, keepdims=True)
    if not size.all():
        raise BegatError(f"unit {int((size[:, 0] == 0).argmax())} leaves no member of the ensemble")
    return subset / size


def ensemble_loss(gram: Gram, weights: Float[np.ndarray, "unit member"]) -> Losses:
    """The loss w' R w of every weighting on every query."""
    return np.einsum("ui,qij,uj->qu", weights, gram, weights, optimize=True)


def member_variance(gram: Gram) -> Float[np.ndarray, " query"]:
    """s^2, the unbiased between-member variance of the predicted noise, mean over dimensions."""
    members = gram.shape[-1]
    trace = np.trace(gram, axis1=1, axis2=2)
    return (trace - gram.sum((1, 2)) / members) / (members - 1)


def naive(gram: Gram, seen: Seen) -> Losses:
    """Loss of the survivors minus loss of all members: ablation as published.

    Every unit gains the offset s^2 (1/|survivors| - 1/n) merely because fewer networks are
    averaged, so all units seem to help; ``matched`` removes it.
    """
    everyone = np.ones((1, seen.shape[1]), bool)
    return ensemble_loss(gram, subset_weights(1 - seen)) - ensemble_loss(
        gram, subset_weights(everyone)
    )


def matched(gram: Gram, seen: Seen) -> Losses:
    """Loss of the survivors minus the mean loss of random member sets of their size.

    That mean is, exactly, loss(all) + s^2 (1/|survivors| - 1/n).
    """
    survivors = (1 - seen).sum(1)
    offset = 1 / survivors - 1 / seen.shape[1]
    return naive(gram, seen) - member_variance(gram)[:, None] * offset


def mirror(gram: Gram, seen: Seen) -> Losses:
    """Loss of the members that never saw the unit minus loss of those that did.

    Both sides corrected to equal size, so flipping a code flips the sign.
    """
    survivors, others = (1 - seen).sum(1), seen.sum(1)
    difference = ensemble_loss(gram, subset_weights(1 - seen)) - ensemble_loss(
        gram, subset_weights(seen)
    )
    return difference - member_variance(gram)[:, None] * (1 / survivors - 1 / others)


def means(gram: Gram, seen: Seen) -> Losses:
    """Mean single-member loss of those that never saw the unit minus of those that did."""
    single = np.diagonal(gram, axis1=1, axis2=2)
    return single @ (subset_weights(1 - seen) - subset_weights(seen)).T


Contrast = Callable[[Gram, Seen], Losses]
CONTRASTS: dict[str, Contrast] = {  # the first stands for all
    "matched": matched,
    "mirror": mirror,
    "means": means,
    "naive": naive,
}


def p_values(
    score: Losses, null: Float[np.ndarray, "query null"]
) -> Float[np.ndarray, "query unit"]:
    """The share of null scores at least as large: small = helped, near 1 = harmed.

    One is added to both counts, so the value is valid (never 0) for a unit without effect.
    """
    ordered = np.sort(null, 1)
    at_least = np.stack(
        [len(o) - np.searchsorted(o, s, "left") for o, s in zip(ordered, score, strict=True)]
    )
    return (1 + at_least) / (1 + null.shape[1])


def null_by_residuals(
    contrast: Contrast, gram: Gram, directions: Float[np.ndarray, "direction member"]
) -> tuple[Float[np.ndarray, " query"], Float[np.ndarray, " query"]]:
    """Mean and standard deviation of a unit's score without effect, from unused directions.

    With orthogonal codes no unit reaches into another's score, so the score of a unit without
    effect is made by differences between members alone, as is that of any direction orthogonal to
    all codes (``ensembles.null_codes.residual_directions``). Forwards and backwards along a
    direction the linear part of a contrast changes its sign: half the difference is one residual of
    the orthogonal regression, half the sum is what an average of fewer members adds, which moves
    all units alike and hardly varies.
    """
    length = np.sqrt(gram.shape[-1])
    forwards, backwards = (
        contrast(gram, (1 + sign * length * directions) / 2) for sign in (1.0, -1.0)
    )
    residual = (forwards - backwards) / 2
    return (forwards + backwards).mean(1) / 2, np.sqrt((residual**2).mean(1))


def student_p_values(
    score: Losses, mean: Float[np.ndarray, " query"], spread: Float[np.ndarray, " query"], free: int
) -> Float[np.ndarray, "query unit"]:
    """The upper tail of Student's t: small = helped, near 1 = harmed.

    Args:
        score: of units with orthogonal codes.
        mean, spread: from ``null_by_residuals``.
        free: how many directions the spread was estimated from.
    """
    away, spread = score - mean[:, None], spread[:, None]
    return stdtr(free, -np.divide(away, spread, out=np.zeros_like(away), where=spread > 0))
