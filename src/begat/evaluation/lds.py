"""Linear datamodelling score (LDS) of many methods, with baselines, intervals and noise ceiling.

The summary has per method value, interval, p and differences from the baselines, and with several
seeds the noise ceiling. Beside the methods are ``random`` scores and, with several seeds,
``query_independent`` (``evaluation.predictions``). That row is compared with the losses of one
seed, in the mean over seeds: a noisier reference than the mean of all seeds. ``minus_blind`` is
each method's difference from it on the same single seeds.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from begat.evaluation.intervals import (
    MIN_ENTRIES,
    Row,
    compare_methods,
    confidence_interval,
    half_sampling,
    unit_permutations,
)
from begat.evaluation.noise_ceilings import expected_correlations, noise_ceiling
from begat.evaluation.predictions import Forecast, Removed, forecast_of, query_independent
from begat.evaluation.statistics import Measured, correlation, lds, reliability, spearman
from begat.rng.seeds import numpy_generator

QUERY_INDEPENDENT = "query_independent"
BASELINES = {"minus_pixel": "pixel_rbf", "minus_size": "group_size"}
Predictions = Float[np.ndarray, "method subset query"]
Statistic = Callable[..., np.ndarray]
Resample = Callable[[Statistic], tuple[np.ndarray, np.ndarray]]


def subset_agreement(
    forecasts: Mapping[str, Forecast],
    removed: Removed,
    measured: Measured,
    *,
    name: str,
    seed: int,
    resamples: int,
) -> tuple[dict[str, Any], dict[str, Float[np.ndarray, " query"]]]:
    """Returns a summary of every method's LDS (see the module), and its LDS per query.

    Args:
        forecasts: method -> its prediction for subsets.
        removed: the units that each subset lacks.
        measured: the losses of the models trained on each.
        name: of the random numbers.
        seed, resamples: as for ``evaluation.agreement.evaluate``.
    """
    subsets, seeds, queries = measured.shape
    generator = partial(numpy_generator, seed, "metrics", name)

    def resample(statistic: Statistic) -> tuple[np.ndarray, np.ndarray]:  # same halves
        return half_sampling(statistic, (subsets, queries), generator("halves"), resamples)

    random = generator("random").normal(size=(queries, removed.shape[1]))
    forecasts = {**forecasts, "random": forecast_of(random)}
    predicted = np.stack([forecast(removed) for forecast in forecasts.values()])
    permutations = unit_permutations(removed.shape[1], generator("shuffles"), resamples)
    permuted = permuted_lds(forecasts, removed, measured.mean(1), permutations)
    values, deviations = resample(partial(_resampled_lds, predicted, measured.mean(1)))
    rows = compare_methods(list(forecasts), values, deviations, permuted, BASELINES)
    per_query = {m: lds(p, measured) for m, p in zip(forecasts, predicted, strict=True)}
    if (baseline := query_independent(measured)) is not None:
        _compare_on_single_seeds(rows, predicted, baseline, measured, resample)
        single = [lds(baseline[s], measured[:, [s]]) for s in range(seeds)]
        per_query[QUERY_INDEPENDENT] = np.mean(single, 0)
    summary: dict[str, Any] = {"methods": rows, "subsets": subsets, "seeds": seeds}
    if seeds > 1 and subsets >= MIN_ENTRIES:
        summary |= _ceiling(measured, generator("ceiling"), resample)
    return summary, per_query


def mean_lds(
    predicted: Predictions, measured: Float[np.ndarray, "subset query"]
) -> Float[np.ndarray, " method"]:
    """Returns each method's rank correlation over subsets, mean over queries."""
    return spearman(predicted.transpose(0, 2, 1), measured.T[None]).mean(1)


def permuted_lds(
    forecasts: Mapping[str, Forecast],
    removed: Removed,
    measured: Float[np.ndarray, "subset query"],
    permutations: list[np.ndarray],
) -> Float[np.ndarray, "permutation method"]:
    """Returns the mean LDS of each method under each permutation of its units."""
    ranks = rankdata(measured.T, axis=1)

    def agreement(forecast: Forecast, order: np.ndarray) -> float:
        return float(correlation(rankdata(forecast(removed[:, order]).T, axis=1), ranks).mean())

    return np.array([[agreement(f, order) for f in forecasts.values()] for order in permutations])


def _resampled_lds(
    predicted: Predictions, measured: np.ndarray, subsets: np.ndarray, queries: np.ndarray
) -> Float[np.ndarray, " method"]:
    part = _part(predicted, subsets, queries)
    return mean_lds(part, measured[subsets][:, queries])


def _part(values: np.ndarray, subsets: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return values[:, subsets][:, :, queries]


def _ceiling(
    measured: Measured, generator: np.random.Generator, resample: Resample
) -> dict[str, Any]:
    """Returns the correlation between seeds, and the noise ceiling with its interval."""
    correlations = expected_correlations(len(measured), generator)

    def ceiling(subsets: np.ndarray, queries: np.ndarray) -> np.ndarray:
        return np.array(noise_ceiling(measured[subsets][:, :, queries], correlations))

    value, deviations = resample(ceiling)
    interval = confidence_interval(float(value), deviations)
    return {"seed_correlation": reliability(measured), "ceiling": interval}


def _compare_on_single_seeds(
    rows: dict[str, Row],
    predicted: Predictions,
    baseline: Float[np.ndarray, "seed subset query"],
    measured: Measured,
    resample: Resample,
) -> None:
    """Add the row of the query-independent forecast, and the methods' differences from it."""

    def on_single_seeds(s: np.ndarray, q: np.ndarray) -> np.ndarray:
        part = _part(predicted, s, q)
        values = [
            mean_lds(np.concatenate([part, _part(baseline[[r]], s, q)]), measured[s][:, r, q])
            for r in range(len(baseline))
        ]
        return np.mean(values, 0)

    values, deviations = resample(on_single_seeds)
    for i, row in enumerate(rows.values()):
        difference = deviations[:, i] - deviations[:, -1]
        row["minus_blind"] = confidence_interval(values[i] - values[-1], difference)
    rows[QUERY_INDEPENDENT] = confidence_interval(values[-1], deviations[:, -1])
