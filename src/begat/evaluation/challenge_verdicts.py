"""Verdicts of a challenge: from the p-values and limits of ``evaluation.challenge``.

α is ``Rule.error``, the error probability of each test, and f is ``Rule.fraction``.

- ``rejected``, if the test of the claim has p <= α, or the claim is not what the committed losses
  give: an honest claim is rejected with a probability of at most α. Also, if the test of the names
  has p > α and the upper one-sided limit of the fresh LDS is below f times the noise ceiling:
  scores as good as that are rejected with a probability of at most α. Without a second seed there
  is no noise ceiling and no such rejection.
- ``accepted``, if the test of the claim has p > α, that of the names p <= α, and the lower
  one-sided limit of the fresh LDS is at least f times the claim. Scores with exchanged names are
  accepted with a probability of at most α, and so are scores whose LDS is below f times the claim.
- ``undecided``: too few subsets for this claim. ``subsets_needed`` is the number that is enough.

Limits have the level 1 - α. They rest on standard errors by half-sampling of the subsets, and are
approximate; p-values are exact.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import comb
from scipy.stats import norm, t

from begat.evaluation.intervals import MIN_ENTRIES, Row

Verdict = Literal["accepted", "rejected", "undecided"]
ACCEPTED: Verdict = "accepted"
REJECTED: Verdict = "rejected"
UNDECIDED: Verdict = "undecided"
RESOLUTION = 5  # permutations of a test, as a multiple of 1 / error
MAX_SUBSETS = 10_000


@dataclass(frozen=True)
class Rule:
    """When a verdict is given.

    Attributes:
        error: probability of each wrong verdict, for each method.
        fraction: of the claimed LDS that fresh subsets must confirm.
        power: probability of acceptance that a number of subsets is planned for.
    """

    error: float = 0.01
    fraction: float = 0.5
    power: float = 0.95

    @property
    def permutations(self) -> int:
        """The number of permutations of each test."""
        return math.ceil(RESOLUTION / self.error) - 1


@dataclass(frozen=True)
class Sizes:
    """Numbers of committed and of fresh subsets, and the noise ceiling (-inf if it is unknown)."""

    committed: int
    fresh: int
    ceiling: float


@dataclass(frozen=True)
class MethodVerdict:
    """The verdict on one method.

    Attributes:
        claimed, fresh: LDS with standard error and 95 % interval.
        claim_p: of a difference as large, if the scores are as good on fresh subsets.
        names_p: of a fresh LDS as high, if the units had each other's names.
        verdict: see the module.
        reason: of the verdict, in words; empty where it is accepted.
        needed: subsets with which a true claim is accepted with the rule's power; None where
            ``MAX_SUBSETS`` are too few.
    """

    claimed: Row
    fresh: Row
    claim_p: float
    names_p: float
    verdict: Verdict
    reason: str
    needed: int | None


def verdict_of(
    claimed: Row,
    fresh: Row,
    claim_p: float,
    names_p: float,
    sizes: Sizes,
    rule: Rule,
) -> MethodVerdict:
    """Returns the verdict (see the module) from both rows, both p and the numbers of subsets."""
    needed = subsets_needed(claimed, sizes.committed, rule)
    lower, upper = one_sided_limits(fresh, sizes.fresh, rule)
    if claim_p <= rule.error:
        verdict, reason = REJECTED, "below the claim"
    elif names_p > rule.error and upper < rule.fraction * sizes.ceiling:
        verdict, reason = REJECTED, "no better than exchanged names"
    elif claimed["value"] <= 0:
        verdict, reason = UNDECIDED, "claims no LDS above 0"
    elif names_p <= rule.error and lower >= rule.fraction * claimed["value"]:
        verdict, reason = ACCEPTED, ""
    else:
        verdict, reason = UNDECIDED, _too_uncertain(needed, sizes.fresh)
    return MethodVerdict(claimed, fresh, claim_p, names_p, verdict, reason, needed)


def _too_uncertain(needed: int | None, subsets: int) -> str:
    if needed is None:
        return f"more than {MAX_SUBSETS} subsets needed"
    return f"{needed} subsets needed" if needed > subsets else "more subsets needed"


def one_sided_limits(row: Row, subsets: int, rule: Rule) -> tuple[float, float]:
    """Returns the lower and the upper one-sided limit of an LDS; infinite without an error."""
    if row["error"] is None:
        return -math.inf, math.inf
    width = float(t.ppf(1 - rule.error, subsets - 1)) * row["error"]
    return row["value"] - width, row["value"] + width


def subsets_needed(claimed: Row, committed: int, rule: Rule) -> int | None:
    """Returns the smallest number of fresh subsets that accepts a true claim with the power.

    The standard error e of an LDS from K subsets is taken to be that of the claim times the root of
    committed / K. For the claim c, the fraction f, and the quantiles q of Student's t at 1 - α and
    z of the normal distribution at the power, it is the smallest K with

        (q(K) + z) e(K) <= (1 - f) c,

    but at least so many that the test of the claim has 1 / α exchanges. None where ``MAX_SUBSETS``
    are too few.
    """
    if claimed["error"] is None:
        return None
    subsets = np.arange(MIN_ENTRIES, MAX_SUBSETS + 1)
    errors = claimed["error"] * np.sqrt(committed / subsets)
    quantiles = t.ppf(1 - rule.error, subsets - 1) + norm.ppf(rule.power)
    exchanges = comb(committed + subsets, committed)
    margin = (1 - rule.fraction) * claimed["value"]
    enough = (quantiles * errors <= margin) & (exchanges * rule.error >= 1)
    return int(subsets[np.argmax(enough)]) if enough.any() else None
