"""Predicted losses of subset models: sums of the scores of the units that each subset lacks."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from begat.evaluation.statistics import Measured, Predicted, removed_sum

MemberOf = Bool[np.ndarray, "group image"]
ImageScores = Mapping[str, Float[np.ndarray, "query image"]]
GroupScores = Mapping[str, Float[np.ndarray, "query group"]]
Removed = Bool[np.ndarray, "subset unit"]
Forecast = Callable[[Removed], Predicted]


def image_forecasts(scores: ImageScores) -> dict[str, Forecast]:
    """Returns every method's forecast for subsets that lack images."""
    return {method: forecast_of(score) for method, score in scores.items()}


def group_forecasts(
    group_scores: GroupScores, image_scores: ImageScores, member_of: MemberOf
) -> dict[str, Forecast]:
    """Returns every method's forecast for subsets that lack groups, and that of ``group_size``.

    Where an image may be in several groups, the effect of a subset is not the sum over its groups:
    some images would count twice. So methods that score images are summed over the images lacked.
    """
    overlapping = bool((member_of.sum(0) > 1).any())

    def forecast(method: str, score: np.ndarray) -> Forecast:
        image_method = method.removesuffix("_summed")
        is_sum = method != image_method or f"{method}_summed" not in group_scores
        if overlapping and is_sum and image_method in image_scores:
            return forecast_of(image_scores[image_method], member_of)
        return forecast_of(score)

    forecasts = {method: forecast(method, score) for method, score in group_scores.items()}
    for score in list(group_scores.values())[:1]:
        ones = np.ones((len(score), member_of.shape[1]))
        forecasts["group_size"] = forecast_of(ones, member_of)
    return forecasts


def forecast_of(
    score: Float[np.ndarray, "query unit"], member_of: MemberOf | None = None
) -> Forecast:
    """Returns the forecast by scores of units, or with ``member_of`` by scores of their images."""
    score = score.astype(np.float64)
    if member_of is None:
        return partial(removed_sum, score)
    return lambda removed: removed_sum(score, removed_images(removed, member_of))


def removed_images(
    removed: Bool[np.ndarray, "subset group"], member_of: MemberOf
) -> Bool[np.ndarray, "subset image"]:
    """Returns the images that subsets lack: those of any group they lack, each once."""
    return removed.astype(np.float64) @ member_of.astype(np.float64) > 0


def group_sizes(member_of: MemberOf, queries: int) -> Float[np.ndarray, "query group"]:
    """Returns the number of images in each group, as scores that are the same for every query."""
    return np.tile(member_of.sum(1).astype(np.float64), (queries, 1))


def query_independent(measured: Measured) -> Float[np.ndarray, "seed subset query"] | None:
    """Returns a forecast of each seed's losses: the other seeds' mean over all other queries.

    It is independent of the query, and of the models that it is compared with: a model that came
    out badly by chance is bad for all queries. None where there is no other seed or no other query.
    """
    _, seeds, queries = measured.shape
    if min(seeds, queries) < 2:
        return None
    other_seeds = [np.delete(measured, seed, 1).mean(1) for seed in range(seeds)]
    return np.stack([mean_of_others(losses, axis=1) for losses in other_seeds])


def mean_of_others(values: Float[np.ndarray, "a b"], axis: int) -> Float[np.ndarray, "a b"]:
    """Returns, for each entry along ``axis``, the mean of all the others."""
    n = values.shape[axis]
    return (values.sum(axis, keepdims=True) - values) / (n - 1)
