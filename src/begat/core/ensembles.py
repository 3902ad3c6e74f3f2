"""The loss of any part of an ensemble, from the members' Gram matrices, and what it says of units.

An ensemble predicts the mean of its members' noises. With r_i the error of member i on a draw,
the loss of the members weighted by w (sum 1) is |sum_i w_i r_i|^2 / D = w' R w, where
R[i, j] = mean over draws and dimensions of r_i r_j. So n forward passes per draw give the exact
loss of all 2^n subsets; no unit needs a network call of its own.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from begat.core.codes import Codes
from begat.errors import BegatError

Gram = Float[np.ndarray, "query member member"]
Losses = Float[np.ndarray, "query unit"]


def subset_weights(subset: Bool[np.ndarray, "unit member"]) -> Float[np.ndarray, "unit member"]:
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


def naive(gram: Gram, seen: Codes) -> Losses:
    """Loss of the survivors minus loss of all members: ablation as published.

    Every unit gains the offset s^2 (1/|survivors| - 1/n) merely because fewer networks are
    averaged, so all units seem to help; ``matched`` removes it.
    """
    everyone = np.ones((1, seen.shape[1]), bool)
    return ensemble_loss(gram, subset_weights(~seen)) - ensemble_loss(
        gram, subset_weights(everyone)
    )


def matched(gram: Gram, seen: Codes) -> Losses:
    """Loss of the survivors minus the mean loss of random member sets of their size.

    That mean is, exactly, loss(all) + s^2 (1/|survivors| - 1/n).
    """
    survivors = (~seen).sum(1)
    offset = 1 / survivors - 1 / seen.shape[1]
    return naive(gram, seen) - member_variance(gram)[:, None] * offset


def mirror(gram: Gram, seen: Codes) -> Losses:
    """Loss of the members that never saw the unit minus loss of those that did.

    Both sides corrected to equal size, so flipping a code flips the sign.
    """
    survivors, others = (~seen).sum(1), seen.sum(1)
    difference = ensemble_loss(gram, subset_weights(~seen)) - ensemble_loss(
        gram, subset_weights(seen)
    )
    return difference - member_variance(gram)[:, None] * (1 / survivors - 1 / others)


def means(gram: Gram, seen: Codes) -> Losses:
    """Mean single-member loss of those that never saw the unit minus of those that did."""
    single = np.diagonal(gram, axis1=1, axis2=2)
    return single @ (subset_weights(~seen) - subset_weights(seen)).T


CONTRASTS: dict[str, Callable[[Gram, Codes], Losses]] = {  # the first stands for all
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
