"""Tests of scores by models trained on fresh random subsets, which were drawn after the scores.

A run claims an LDS for each method, measured on its own subsets (*committed*). A challenge trains
models on other random subsets (*fresh*) and asks two questions about each method:

- Claim: does the LDS on fresh subsets confirm the claim? Scores made without a look at the
  committed losses are as good on fresh subsets. Then committed and fresh subsets, with the losses
  measured on them, are exchangeable. So the difference of the two LDS (committed minus fresh) is
  compared with its values after random exchanges between the two (one-sided, the same numbers of
  subsets and seeds on either side). This test is exact: it needs no normal distribution, and the
  noise of retraining and the numbers of subsets are the same in every exchange.
- Names: is the LDS on fresh subsets higher than with the names of the units exchanged
  (``intervals.unit_permutations``)?

Nothing is resampled over queries: a claim is about the queries of the run. So intervals are
narrower here than in the metrics of a run. The verdicts are those of
``evaluation.challenge_verdicts``.

The idea of checking predictions on random subsets after the scores were committed is that of
Karchmer, Pawelczyk and Neel (arXiv 2508.10866), who bound the squared error of scores that predict
losses. Most scores here have no scale, so rank correlations take the place of squared errors.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from begat.evaluation.agreement import GroundTruth
from begat.evaluation.challenge_verdicts import REJECTED, MethodVerdict, Rule, Sizes, verdict_of
from begat.evaluation.intervals import (
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

Generators = Callable[[str], np.random.Generator]
TOLERANCE = 1e-6  # of a claim that is computed again


def verdicts_on(
    forecasts: Mapping[str, Forecast],
    claims: Mapping[str, float],
    committed: GroundTruth,
    fresh: GroundTruth,
    rule: Rule,
    generator: Generators,
    resamples: int,
) -> dict[str, MethodVerdict]:
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
    verdicts = {}
    for i, method in enumerate(forecasts):
        before, after = (part[method] for part in rows)
        claim_p = permutation_p_value(before["value"] - after["value"], exchanged[:, i])
        names_p = permutation_p_value(after["value"], renamed[:, i])
        verdict = verdict_of(before, after, claim_p, names_p, sizes, rule)
        if abs(before["value"] - claims[method]) > TOLERANCE:
            verdict = replace(verdict, verdict=REJECTED, reason="not what its losses give")
        verdicts[method] = verdict
    return verdicts


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


def _ceiling(measured: Measured, generator: np.random.Generator) -> float:
    """Returns the noise ceiling; minus infinity where a second seed is missing."""
    if measured.shape[1] < 2:
        return -math.inf
    return noise_ceiling(measured, expected_correlations(len(measured), generator))
