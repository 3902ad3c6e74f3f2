"""Units with the highest and the lowest scores, and the labels that a score's measure allows."""

import numpy as np
from jaxtyping import Float, Int

from begat.evaluation.measures import Measure

Extremes = tuple[Int[np.ndarray, " highest"], Int[np.ndarray, " lowest"]]


def extreme_labels(measure: Measure) -> tuple[str, str]:
    """Returns the headings of the highest and of the lowest scores."""
    return ("helped most", "harmed most") if measure.signed else ("highest", "lowest")


def extremes(measure: Measure, score: Float[np.ndarray, " unit"], count: int) -> Extremes:
    """Returns the units with the highest and with the lowest scores, the most extreme first.

    Each list has at most ``count`` units. Where the sign is meaningful, the first list contains
    only positive and the second only negative scores, so that no unit with a negative score is
    listed as helpful; a list can then be shorter, or empty.
    """
    order = np.argsort(-score, kind="stable")
    if not measure.signed:
        return order[:count], order[::-1][:count]
    return order[score[order] > 0][:count], order[score[order] < 0][::-1][:count]


def remark(measure: Measure) -> str:
    """Returns the restriction on reading a score; empty where both sign and size are meaningful."""
    if not measure.signed:
        return "order only"
    return "" if measure.calibrated else "sign and order only"
