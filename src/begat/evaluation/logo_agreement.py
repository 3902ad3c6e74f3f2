"""Agreement of group scores with leave-one-group-out (LOGO) retraining, by ranking metrics."""

from typing import Any

import numpy as np
from jaxtyping import Float

from begat.evaluation.intervals import compare_methods, half_sampling, unit_permutations
from begat.evaluation.predictions import GroupScores, mean_of_others
from begat.evaluation.ranking_metrics import METRICS
from begat.rng.seeds import numpy_generator

LOGO = "logo_"  # prefix of the rows that are ground truth
OTHER_TRAINING = {"independent": "paired", "paired": "independent"}  # with other seeds
BASELINES = {
    "minus_pixel": "pixel_rbf",
    "minus_size": "group_size",
    "minus_blind": "query_independent",
}


def logo_agreement(
    scores: GroupScores, reference: str, *, seed: int, resamples: int
) -> tuple[dict[str, Any], dict[str, Float[np.ndarray, " query"]]]:
    """Returns a summary of every method's agreement with LOGO, and its rank correlations per query.

    The summary is metric -> method -> value, interval, p and differences from the baselines. The
    methods are those of ``methods_and_baselines``.

    Intervals are over queries and groups, as all queries share the retrained models and the groups;
    the seeds of a group stay with it. Only metrics with ``half_sampled`` have one. p-values are by
    permutations of the groups.

    Args:
        scores: method -> group scores.
        reference: the row of ``scores`` that is the ground truth.
        seed: the root seed.
        resamples: half-samples for each interval, permutations for each p-value.
    """
    truth, table = scores[reference], methods_and_baselines(scores, reference)
    stacked = np.stack(list(table.values()))

    def agreement(queries: np.ndarray, groups: np.ndarray) -> np.ndarray:
        return _agreement(stacked[:, queries][:, :, groups], truth[queries][:, groups])

    generator = numpy_generator(seed, "metrics", reference, "halves")
    values, deviations = half_sampling(agreement, truth.shape, generator, resamples)
    generator = numpy_generator(seed, "metrics", reference, "shuffles")
    permutations = unit_permutations(truth.shape[1], generator, resamples)
    permuted = np.stack([_agreement(stacked[:, :, order], truth) for order in permutations])
    summary = {}
    for i, (name, metric) in enumerate(METRICS.items()):
        sampled = deviations[:, i] if metric.half_sampled else deviations[:0, i]
        summary[name] = compare_methods(list(table), values[i], sampled, permuted[:, i], BASELINES)
    spearman = METRICS["spearman"].per_query
    return summary, {method: spearman(score, truth) for method, score in table.items()}


def methods_and_baselines(
    scores: GroupScores, reference: str
) -> dict[str, Float[np.ndarray, "query group"]]:
    """Returns the scores to compare with a LOGO reference, without those that are ground truth.

    Where the reference was retrained with other seeds too, ``another_training`` is that training:
    the level above which agreement with one training means nothing; and ``query_independent`` is
    its mean over all other queries.
    """
    table = {method: s for method, s in scores.items() if not method.startswith(LOGO)}
    measurement, _, training = reference.rpartition("_")
    other = scores.get(f"{measurement}_{OTHER_TRAINING.get(training)}")
    if other is not None:
        table["another_training"] = other
        if len(other) > 1:
            table["query_independent"] = mean_of_others(other, axis=0)
    return table


def _agreement(
    scores: Float[np.ndarray, "method query group"], reference: Float[np.ndarray, "query group"]
) -> Float[np.ndarray, "metric method"]:
    """Returns every metric of every method, mean over queries."""
    methods = len(scores)
    rows, references = scores.reshape(-1, reference.shape[1]), np.tile(reference, (methods, 1))
    per_query = [metric.per_query(rows, references) for metric in METRICS.values()]
    return np.stack([values.reshape(methods, -1).mean(1) for values in per_query])
