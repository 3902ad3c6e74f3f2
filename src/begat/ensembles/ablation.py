"""Ablation scores of an encoded ensemble, from the Gram matrices of its members' errors.

An ensemble predicts the mean of its members' noises. With r_i the error of member i on a draw,
the loss of the members weighted by w (sum 1) is |sum_i w_i r_i|^2 / D = w' R w, where
R[i, j] = mean over draws and dimensions of r_i r_j. So n forward passes per draw give the exact
loss of all 2^n subsets; no unit needs a network evaluation of its own.

*Out* members are those not trained on a unit, *in* members those trained on it.
Source: Dai & Gifford, arXiv 2306.02174; the size correction is ours.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Real
from scipy.special import stdtr

from begat.errors import BegatError

Gram = Float[np.ndarray, "query member member"]
Scores = Float[np.ndarray, "query unit"]
# True where a member was trained on a unit; fractions where a regression direction replaces a unit.
Exposure = Bool[np.ndarray, "unit member"] | Real[np.ndarray, "unit member"]


def subset_weights(subset: Exposure) -> Float[np.ndarray, "unit member"]:
    """Returns equal weights on the members of each subset.

    Raises:
        BegatError: a subset is empty.
    """
    size = subset.sum(1, keepdims=True)
    if not size.all():
        raise BegatError(f"unit {int((size[:, 0] == 0).argmax())} leaves no member of the ensemble")
    return subset / size


def ensemble_loss(gram: Gram, weights: Float[np.ndarray, "unit member"]) -> Scores:
    """Returns the loss w' R w of every weighting on every query."""
    return np.einsum("ui,qij,uj->qu", weights, gram, weights, optimize=True)


def member_variance(gram: Gram) -> Float[np.ndarray, " query"]:
    """Returns s^2, the unbiased between-member variance of the noise, mean over dimensions."""
    members = gram.shape[-1]
    trace = np.trace(gram, axis1=1, axis2=2)
    return (trace - gram.sum((1, 2)) / members) / (members - 1)


def as_published(gram: Gram, exposure: Exposure) -> Scores:
    """Returns the loss of the out members minus the loss of all: ablation as published.

    Every unit gains the offset s^2 (1/|out| - 1/n) merely because fewer networks are averaged, so
    all units seem to help; ``size_matched`` removes it.
    """
    everyone = np.ones((1, exposure.shape[1]), bool)
    return ensemble_loss(gram, subset_weights(1 - exposure)) - ensemble_loss(
        gram, subset_weights(everyone)
    )


def size_matched(gram: Gram, exposure: Exposure) -> Scores:
    """Returns the loss of the out members minus the mean loss of random subsets of their size.

    That mean is, exactly, loss(all) + s^2 (1/|out| - 1/n).
    """
    out_count = (1 - exposure).sum(1)
    offset = 1 / out_count - 1 / exposure.shape[1]
    return as_published(gram, exposure) - member_variance(gram)[:, None] * offset


def out_minus_in_ensemble(gram: Gram, exposure: Exposure) -> Scores:
    """Returns the loss of the out members minus that of the in members, each averaged as one model.

    Both sides are corrected to equal size, so complementing a code flips the sign.
    """
    out_count, in_count = (1 - exposure).sum(1), exposure.sum(1)
    difference = ensemble_loss(gram, subset_weights(1 - exposure)) - ensemble_loss(
        gram, subset_weights(exposure)
    )
    return difference - member_variance(gram)[:, None] * (1 / out_count - 1 / in_count)


def out_minus_in_members(gram: Gram, exposure: Exposure) -> Scores:
    """Returns the mean single-member loss of the out members minus that of the in members."""
    single = np.diagonal(gram, axis1=1, axis2=2)
    return single @ (subset_weights(1 - exposure) - subset_weights(exposure)).T


Contrast = Callable[[Gram, Exposure], Scores]
CONTRASTS: dict[str, Contrast] = {  # by the ending of the method's name; the first is the headline
    "matched": size_matched,
    "mirror": out_minus_in_ensemble,
    "means": out_minus_in_members,
    "naive": as_published,
}


def p_values(scores: Scores, null: Float[np.ndarray, "query null"]) -> Scores:
    """Returns the share of null scores at least as large: small = helped, near 1 = harmed.

    One is added to both counts, so the p-value is valid (never 0) for a unit without effect.
    """
    at_least = np.stack(
        [
            len(row) - np.searchsorted(row, score, "left")
            for row, score in zip(np.sort(null, 1), scores, strict=True)
        ]
    )
    return (1 + at_least) / (1 + null.shape[1])


def residual_null(
    contrast: Contrast, gram: Gram, directions: Float[np.ndarray, "direction member"]
) -> tuple[Float[np.ndarray, " query"], Float[np.ndarray, " query"]]:
    """Returns mean and standard deviation of the score of a unit without effect.

    With orthogonal codes the effects of other units cancel, so the score of a unit without effect
    consists of differences between members alone, as does the score of any direction orthogonal
    to all codes (``ensembles.null_codes.residual_directions``). Reversing a direction changes the
    sign of the linear part of a contrast: half the difference of the two scores is one residual of
    the orthogonal regression; half their sum is the effect of averaging fewer members, which moves
    all units alike and hardly varies.
    """
    length = np.sqrt(gram.shape[-1])
    forward, backward = (
        contrast(gram, (1 + sign * length * directions) / 2) for sign in (1.0, -1.0)
    )
    residual = (forward - backward) / 2
    return (forward + backward).mean(1) / 2, np.sqrt((residual**2).mean(1))


def student_p_values(
    scores: Scores,
    mean: Float[np.ndarray, " query"],
    deviation: Float[np.ndarray, " query"],
    degrees_of_freedom: int,
) -> Scores:
    """Returns the upper tail of Student's t: small = helped, near 1 = harmed.

    Args:
        scores: of units with orthogonal codes.
        mean: of the null, from ``residual_null``.
        deviation: standard deviation of the null, likewise.
        degrees_of_freedom: the number of directions that it was estimated from.
    """
    centred, deviation = scores - mean[:, None], deviation[:, None]
    t = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    return stdtr(degrees_of_freedom, -t)
