"""Verdicts on scores by models trained on fresh random subsets, which were drawn after the scores.

A run claims an LDS for each method, measured on its own subsets (*committed*). A challenge trains
models on other random subsets (*fresh*) and asks two questions about each method:

- Claim: does the LDS on fresh subsets confirm the claim? Scores made without a look at the
  committed losses are as good on fresh subsets. Then committed and fresh subsets, with the losses
  measured on them, are exchangeable. So the difference of the two LDS (committed minus fresh) is
  compared with its values after random exchanges between the two (one-sided, the same numbers of
  subsets and seeds on either side). That test is exact: it needs no normal distribution, noise of
  retraining and the number of subsets weigh equally on both sides, and the queries are the same.
- Names: is the LDS on fresh subsets higher than with the names of the units exchanged
  (``intervals.unit_permutations``)?

Verdicts, where α is ``Rule.error``, the error probability of each test, and f ``Rule.fraction``:

- ``rejected``, if the test of the claim has p <= α, or the claim is not what the committed losses
  give: an honest claim is rejected with a probability of at most α. Also, if the test of the names
  has p > α and the upper one-sided limit of the fresh LDS is below f times the noise ceiling:
  scores as good as that are rejected with a probability of at most α. Without a second seed there
  is no noise ceiling and no such rejection.
- ``accepted``, if the test of the claim has p > α, that of the names p <= α, and the lower
  one-sided limit of the fresh LDS is at least f times the claim. Scores with exchanged names are
  accepted with a probability of at most α, and so are scores whose LDS is below f times the claim.
- ``undecided``: too few subsets for this claim. ``subsets_needed`` says how many are enough.

Limits have the level 1 - α. They rest on standard errors by half-sampling of the subsets, and are
approximate; p-values are exact. Nothing is resampled over queries: a claim is about the queries of
the run. So intervals are narrower here than in the metrics of a run.

The idea of checking predictions on random subsets after the scores were committed is that of
Karchmer, Pawelczyk and Neel (arXiv 2508.10866), who bound the squared error of scores that predict
losses. Most scores here have no scale, so rank correlations take the place of squared errors.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import comb
from scipy.stats import norm, t

from begat.evaluation.agreement import GroundTruth
from begat.evaluation.intervals import (
    MIN_ENTRIES,
    Row,
    confidence_interval,
    half_sampling,
    permutation_p_value,
    unit_permutations,
)
from begat.evaluation.lds import Predictions, mean_lds, permuted_lds
from begat.evaluation.noise_ceilings import expected_correlations, noise_ceiling
from begat.evaluation.predictions import Forecast
from begat.evaluation.statistics import Measured

Verdict = Literal["accepted", "rejected", "undecided"]
ACCEPTED: Verdict = "accepted"
REJECTED: Verdict = "rejected"
UNDECIDED: Verdict = "undecided"
Generators = Callable[[str], np.random.Generator]
RESOLUTION = 5  # permutations of a test, as a multiple of 1 / error
MAX_SUBSETS = 10_000
TOLERANCE = 1e-6  # of a claim that is computed again


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
class Judgement:
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


def judge(
    forecasts: Mapping[str, Forecast],
    claims: Mapping[str, float],
    committed: GroundTruth,
    fresh: GroundTruth,
    rule: Rule,
    generator: Generators,
    resamples: int,
) -> dict[str, Judgement]:
    """Returns the verdict on each method.

    Args:
        forecasts: method -> its prediction for subsets.
        claims: method -> its LDS on the committed subsets, as the run states it.
        committed: the run's own subsets and losses.
        fresh: those of the challenge, with as many seeds for each subset.
        rule: when a verdict is given.
        generator: of the random numbers of a name.
        resamples: half-samples for each interval.
    """
    first = len(committed.removed)
    losses = np.concatenate([committed.measured, fresh.measured])
    removed = np.concatenate([committed.removed, fresh.removed])
    measured, predicted = losses.mean(1), np.stack([f(removed) for f in forecasts.values()])
    rows = [
        lds_rows(forecasts, truth, generator("halves"), resamples) for truth in (committed, fresh)
    ]
    exchanged = exchanged_differences(
        predicted, measured, first, generator("exchanges"), rule.permutations
    )
    orders = unit_permutations(removed.shape[1], generator("names"), rule.permutations)
    renamed = permuted_lds(forecasts, fresh.removed, measured[first:], orders)
    sizes = Sizes(first, len(fresh.removed), _ceiling(losses, generator("ceiling")))
    judgements = {}
    for i, method in enumerate(forecasts):
        before, after = (part[method] for part in rows)
        claim_p = permutation_p_value(before["value"] - after["value"], exchanged[:, i])
        names_p = permutation_p_value(after["value"], renamed[:, i])
        verdict = judgement(before, after, claim_p, names_p, sizes, rule)
        if abs(before["value"] - claims[method]) > TOLERANCE:
            verdict = replace(verdict, verdict=REJECTED, reason="not what its losses give")
        judgements[method] = verdict
    return judgements


def lds_rows(
    forecasts: Mapping[str, Forecast],
    truth: GroundTruth,
    generator: np.random.Generator,
    resamples: int,
) -> dict[str, Row]:
    """Returns each method's LDS, with the standard error and the interval over subsets."""
    predicted = np.stack([forecast(truth.removed) for forecast in forecasts.values()])
    measured = truth.measured.mean(1)

    def statistic(subsets: np.ndarray) -> np.ndarray:
        return mean_lds(predicted[:, subsets], measured[subsets])

    values, deviations = half_sampling(statistic, measured.shape[:1], generator, resamples)
    pairs = zip(values, deviations.T, strict=True)
    return {m: confidence_interval(*pair) for m, pair in zip(forecasts, pairs, strict=True)}


def exchanged_differences(
    predicted: Predictions,
    measured: Float[np.ndarray, "subset query"],
    committed: int,
    generator: np.random.Generator,
    count: int,
) -> Float[np.ndarray, "exchange method"]:
    """Returns LDS of committed minus LDS of fresh subsets, after random exchanges between the two.

    Args:
        predicted, measured: of all subsets, the committed ones first.
        committed: their number.
        generator: of the exchanges.
        count: number of exchanges.
    """

    def lds_of(subsets: np.ndarray) -> np.ndarray:
        return mean_lds(predicted[:, subsets], measured[subsets])

    orders = (generator.permutation(len(measured)) for _ in range(count))
    return np.array([lds_of(o[:committed]) - lds_of(o[committed:]) for o in orders])


def judgement(
    claimed: Row,
    fresh: Row,
    claim_p: float,
    names_p: float,
    sizes: Sizes,
    rule: Rule,
) -> Judgement:
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
    return Judgement(claimed, fresh, claim_p, names_p, verdict, reason, needed)


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


def _ceiling(measured: Measured, generator: np.random.Generator) -> float:
    """Returns the noise ceiling; minus infinity where a second seed is missing."""
    if measured.shape[1] < 2:
        return -math.inf
    return noise_ceiling(measured, expected_correlations(len(measured), generator))


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
