"""Agreement of many methods' group scores with leaving each group out of training."""

from typing import Any

import numpy as np
from jaxtyping import Float

from begat.evaluation.intervals import compared, half_samples, shuffles
from begat.evaluation.predictions import GroupScores, mean_of_others
from begat.evaluation.ranking_metrics import METRICS
from begat.rng.seeds import numpy_generator

TRUTH = "logo_"  # how the rows begin that are the truth
TWINS = {"independent": "paired", "paired": "independent"}  # truths that share no training
REFERENCES = {
    "minus_pixel": "pixel_rbf",
    "minus_size": "group_size",
    "minus_blind": "query_independent",
}
HALVED = ("top1", "mrr", "wpra", "spearman")  # measures that mean the same among half the groups


def gold_agreement(
    scores: GroupScores, gold: str, *, seed: int, resamples: int
) -> tuple[dict[str, Any], dict[str, Float[np.ndarray, " query"]]]:
    """Agreement of group scores with the real leave-one-group-out called ``gold``.

    Among the methods are, where the truth has a twin of other seeds, ``another_training``: what
    retraining the same models with other seeds reaches, the level above which agreement with one
    training means nothing; and ``query_independent``: what that twin says of all other queries.

    Intervals are over queries and groups, as all queries share the retrained models and the groups;
    the seeds of a group stay with it. Only measures in ``HALVED`` have one: among half the groups
    the others are bounded more closely, so that their intervals would be too narrow. p-values are
    by shuffled names of groups.

    Returns:
        A summary (metric -> method -> value, interval, p and differences from the free rivals);
        each method's rank correlations.
    """
    truth, table = scores[gold], judged(scores, gold)
    stacked = np.stack(list(table.values()))
    values, deviations = half_samples(
        lambda queries, groups: _agreement(
            stacked[:, queries][:, :, groups], truth[queries][:, groups]
        ),
        truth.shape,
        numpy_generator(seed, "metrics", gold, "halves"),
        resamples,
    )
    orders = shuffles(truth.shape[1], numpy_generator(seed, "metrics", gold, "shuffles"), resamples)
    shuffled = np.stack([_agreement(stacked[:, :, order], truth) for order in orders])
    summary = {}
    for i, name in enumerate(METRICS):
        some = deviations[:, i] if name in HALVED else deviations[:0, i]
        summary[name] = compared(list(table), values[i], some, shuffled[:, i], REFERENCES)
    ranks = METRICS["spearman"]
    return summary, {method: ranks(score, truth) for method, score in table.items()}


def judged(scores: GroupScores, gold: str) -> dict[str, Float[np.ndarray, "query group"]]:
    """The methods, none of which is a truth, and the yardsticks that this truth allows."""
    table = {method: s for method, s in scores.items() if not method.startswith(TRUTH)}
    what, _, which = gold.rpartition("_")
    twin = scores.get(f"{what}_{TWINS.get(which)}")
    if twin is not None:
        table["another_training"] = twin
        if len(twin) > 1:
            table["query_independent"] = mean_of_others(twin, axis=0)
    return table


def _agreement(
    scores: Float[np.ndarray, "method query group"], truth: Float[np.ndarray, "query group"]
) -> Float[np.ndarray, "metric method"]:
    """Every metric of every method, mean over queries."""
    methods = len(scores)
    rows, golds = scores.reshape(-1, truth.shape[1]), np.tile(truth, (methods, 1))
    found = [measure(rows, golds).reshape(methods, -1).mean(1) for measure in METRICS.values()]
    return np.stack(found)
