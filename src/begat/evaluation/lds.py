"""LDS of many methods: how well sums of scores predict retraining on subsets."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from begat.evaluation.intervals import FEWEST, Row, compared, half_samples, interval, shuffles
from begat.evaluation.noise_ceilings import attainable, ceiling
from begat.evaluation.predictions import Forecast, Removed, forecast_of, query_independent
from begat.evaluation.statistics import Measured, correlation, lds, reliability, spearman
from begat.rng.seeds import numpy_generator

BLIND = "query_independent"
REFERENCES = {"minus_pixel": "pixel_rbf", "minus_size": "group_size"}  # free rivals
Statistic = Callable[..., np.ndarray]
Samples = Callable[[Statistic], tuple[np.ndarray, np.ndarray]]


def subset_agreement(
    forecasts: Mapping[str, Forecast],
    removed: Removed,
    measured: Measured,
    *,
    name: str,
    seed: int,
    resamples: int,
) -> tuple[dict[str, Any], dict[str, Float[np.ndarray, " query"]]]:
    """LDS of every method against models retrained on subsets, with what bounds it.

    Beside the methods are ``random`` scores and, with several seeds, ``query_independent``
    (``evaluation.predictions``). That row is judged by the losses of one seed, in the mean over
    seeds, a noisier truth than the mean of all seeds; ``minus_blind`` is each method's difference
    from it on the same single seeds.

    Args:
        forecasts: method -> what it predicts.
        removed: the units that each subset lacks.
        measured: the losses of the models trained on each.
        name: of the generators.
        seed: the root seed.
        resamples: half samples of subsets and queries for the intervals; shuffles of the units'
            names for p-values.

    Returns:
        A summary (per method: value, interval, p, differences from the free rivals; the ceiling),
        and each method's LDS per query.
    """
    subsets, seeds, queries = measured.shape

    def generator(what: str) -> np.random.Generator:
        return numpy_generator(seed, "metrics", name, what)

    def samples(statistic: Statistic) -> tuple[np.ndarray, np.ndarray]:  # the same each time
        return half_samples(statistic, (subsets, queries), generator("halves"), resamples)

    noise = generator("random").normal(size=(queries, removed.shape[1]))
    forecasts = {**forecasts, "random": forecast_of(noise)}
    predicted = np.stack([forecast(removed) for forecast in forecasts.values()])
    truth = measured.mean(1)
    values, deviations = samples(lambda s, q: mean_lds(_part(predicted, s, q), truth[s][:, q]))
    orders = shuffles(removed.shape[1], generator("shuffles"), resamples)
    shuffled = shuffled_lds(forecasts, removed, truth, orders)
    rows = compared(list(forecasts), values, deviations, shuffled, REFERENCES)
    per_query = {m: lds(p, measured) for m, p in zip(forecasts, predicted, strict=True)}
    if (blind := query_independent(measured)) is not None:
        _compare_with_blind(rows, predicted, blind, measured, samples)
        single = [lds(blind[s], measured[:, [s]]) for s in range(seeds)]
        per_query[BLIND] = np.mean(single, 0)
    summary: dict[str, Any] = {"methods": rows, "subsets": subsets, "seeds": seeds}
    if seeds > 1 and subsets >= FEWEST:
        reached = attainable(subsets, generator("ceiling"))
        bound = samples(lambda s, q: np.array(ceiling(measured[s][:, :, q], reached)))
        summary["seed_correlation"] = reliability(measured)
        summary["ceiling"] = interval(float(bound[0]), bound[1])
    return summary, per_query


def mean_lds(
    predicted: Float[np.ndarray, "method subset query"], truth: Float[np.ndarray, "subset query"]
) -> Float[np.ndarray, " method"]:
    """Each method's rank correlation over subsets, mean over queries."""
    return spearman(predicted.transpose(0, 2, 1), truth.T[None]).mean(1)


def shuffled_lds(
    forecasts: Mapping[str, Forecast],
    removed: Removed,
    truth: Float[np.ndarray, "subset query"],
    orders: list[np.ndarray],
) -> Float[np.ndarray, "shuffle method"]:
    """The mean LDS that each method reaches when its units have exchanged their names."""
    ranks = rankdata(truth.T, axis=1)

    def agreement(forecast: Forecast, order: np.ndarray) -> float:
        return float(correlation(rankdata(forecast(removed[:, order]).T, axis=1), ranks).mean())

    found = [[agreement(forecast, order) for forecast in forecasts.values()] for order in orders]
    return np.array(found)


def _part(values: np.ndarray, subsets: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return values[:, subsets][:, :, queries]


def _compare_with_blind(
    rows: dict[str, Row],
    predicted: Float[np.ndarray, "method subset query"],
    blind: Float[np.ndarray, "seed subset query"],
    measured: Measured,
    samples: Samples,
) -> None:
    """Add the row of the query-independent forecast, and the methods' differences from it."""

    def by_single_seeds(s: np.ndarray, q: np.ndarray) -> np.ndarray:
        part = _part(predicted, s, q)
        found = [
            mean_lds(np.concatenate([part, _part(blind[[r]], s, q)]), measured[s][:, r, q])
            for r in range(len(blind))
        ]
        return np.mean(found, 0)

    values, deviations = samples(by_single_seeds)
    for i, row in enumerate(rows.values()):
        apart = deviations[:, i] - deviations[:, -1]
        row["minus_blind"] = interval(values[i] - values[-1], apart)
    rows[BLIND] = interval(values[-1], deviations[:, -1])
