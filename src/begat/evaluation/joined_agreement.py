"""Agreement of joined scores with retraining, on queries and subsets that chose no weights.

Queries and subsets are split into random halves. Weights are fitted, and the best part is chosen,
on one half of both; the values are those of the other halves of both:

                     queries A      queries B
    subsets A        fitted         unused
    subsets B        unused         tested

The unused blocks share either the queries or the retrained models with the block that is fitted. A
model that came out badly by chance has a higher loss on all queries, so new queries alone would
not suffice. Each of the four blocks is tested once, with the weights of the opposite one, and all
values are means over the blocks of several random splits. For leave-one-group-out, a subset is one
group.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float

from begat.evaluation.agreement import LOGO_ROWS, GroundTruth
from begat.evaluation.intervals import (
    LEVEL,
    Row,
    compare_methods,
    half_sampling,
    unit_permutations,
)
from begat.evaluation.joined import stacking_weights, unit_variance
from begat.evaluation.lds import Predictions, mean_lds
from begat.evaluation.predictions import (
    Forecast,
    GroupScores,
    ImageScores,
    MemberOf,
    Removed,
    group_forecasts,
    image_forecasts,
)
from begat.evaluation.statistics import Measured
from begat.rng.seeds import numpy_generator

BEST, STACKED = "best_part", "joined_stacked"  # rows that exist only where they are tested
READY = ("joined", "joined_by_error")  # methods that need no ground truth
SPLITS = 4  # random splits, of four tested blocks each
MIN_ENTRIES = 4  # on both axes: two in each half
MIN_FOR_INTERVAL = 2 * MIN_ENTRIES  # intervals come from halves
Summary = dict[str, Any]


def compare_joined(
    parts: Mapping[str, Sequence[str]],
    image_scores: ImageScores,
    group_scores: GroupScores,
    member_of: MemberOf,
    ground_truths: Mapping[str, GroundTruth],
    *,
    seed: int,
    resamples: int,
) -> Summary:
    """Returns the ``joined_agreement`` with each ground truth: ``lds``, ``group_lds``, ``logo``.

    Args:
        parts: the parts of joined scores of ``images`` and of ``groups``.
        image_scores, group_scores, member_of, ground_truths, seed, resamples: as for
            ``evaluation.agreement.evaluate``; joined scores that need no ground truth are among
            the scores, by names that begin with ``joined``.
    """
    images = {method: unit_variance(score) for method, score in image_scores.items()}
    groups = {method: unit_variance(score) for method, score in group_scores.items()}
    forecasts = {
        "images": image_forecasts(images),
        "groups": group_forecasts(groups, images, member_of),
    }
    truths = dict(ground_truths)
    if reference := next((name for name in LOGO_ROWS if name in group_scores), None):
        alone = np.eye(len(member_of), dtype=bool)
        truths["logo"] = GroundTruth(alone, group_scores[reference].T[:, None])
    summary = Summary()
    for name, truth in truths.items():
        units = "images" if name == "lds" else "groups"
        part = {method: forecasts[units][method] for method in parts[units]}
        ready = {m: f for m, f in forecasts[units].items() if m in READY}
        if len(part) > 1 and min(len(truth.measured), truth.measured.shape[2]) >= MIN_ENTRIES:
            summary[name] = joined_agreement(
                part,
                ready,
                truth.removed,
                truth.measured,
                name=name,
                seed=seed,
                resamples=resamples,
            )
    return summary


def joined_agreement(
    parts: Mapping[str, Forecast],
    ready: Mapping[str, Forecast],
    removed: Removed,
    measured: Measured,
    *,
    name: str,
    seed: int,
    resamples: int,
) -> Summary:
    """Returns how parts and joined scores agree with retraining on blocks that chose nothing.

    ``methods`` has the mean rank correlation of the parts, of the joined scores ``ready``, of
    ``best_part`` (the one with the highest value where weights are fitted) and ``joined_stacked``,
    each with interval, p and difference from ``best_part`` and from ``highest``, the part that
    happens to have the highest value where all are tested. ``verdicts`` says whether each joined
    score is better than ``best_part``: ``better``, ``not better`` (significantly worse) or
    ``undecided``. ``weights`` has the weights of ``joined_stacked``, and ``chosen`` how often each
    part was the best, mean over all fits.

    Args:
        parts: method -> its prediction for subsets, by scores at unit variance.
        ready: the same of joined scores that need no ground truth.
        removed: the units that each subset lacks.
        measured: the losses of the models trained on each.
        name: of the random numbers.
        seed, resamples: as for ``evaluation.agreement.evaluate``.
    """
    forecasts, truth = {**parts, **ready}, measured.mean(1)
    generator = partial(numpy_generator, seed, "metrics", "joined", name)
    splits = generator("splits")

    def predictions(order: np.ndarray) -> Predictions:
        return np.stack([forecast(removed[:, order]) for forecast in forecasts.values()])

    def agreement(
        predicted: Predictions, subsets: np.ndarray, queries: np.ndarray
    ) -> Float[np.ndarray, " number"]:
        block = predicted[:, subsets][:, :, queries]
        return cross_fitted(block, truth[subsets][:, queries], len(parts), splits)

    whole, units = [np.arange(n) for n in truth.shape], removed.shape[1]
    statistic = partial(agreement, predictions(np.arange(units)))
    values, deviations = half_sampling(statistic, truth.shape, generator("halves"), resamples)
    if min(truth.shape) < MIN_FOR_INTERVAL:
        deviations = deviations[:0]
    permutations = unit_permutations(units, generator("shuffles"), resamples)
    permuted = np.stack([agreement(predictions(order), *whole) for order in permutations])
    names = [*forecasts, BEST, STACKED]
    values, weights, chosen = np.split(values, [len(names), len(names) + len(parts)])
    columns = slice(len(names))
    highest = names[int(values[: len(parts)].argmax())]
    baselines = {"minus_best": BEST, "minus_highest": highest}
    rows = compare_methods(names, values, deviations[:, columns], permuted[:, columns], baselines)
    return {
        "methods": rows,
        "highest": highest,
        "verdicts": {m: _verdict(rows[m]["minus_best"]) for m in (*ready, STACKED)},
        "weights": dict(zip(parts, weights.tolist(), strict=True)),
        "chosen": dict(zip(parts, chosen.tolist(), strict=True)),
    }


def cross_fitted(
    predicted: Predictions,
    measured: Float[np.ndarray, "subset query"],
    parts: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, " number"]:
    """Returns the mean over all tested blocks of several random splits.

    Args:
        predicted: by the parts first, then by joined scores that need no ground truth.
        measured: losses.
        parts: number of parts.
        generator: of the splits.

    Returns:
        The mean rank correlation of each row of ``predicted``, of the best part and of the stacked
        parts; then the weight of each part; then the share of fits in which it was the best.
    """
    return np.mean([_tested(predicted, measured, parts, generator) for _ in range(SPLITS)], 0)


def _tested(
    predicted: Predictions, measured: np.ndarray, parts: int, generator: np.random.Generator
) -> Float[np.ndarray, " number"]:
    """The numbers of ``cross_fitted`` for one split: the mean over its four blocks."""
    halves = [np.array_split(generator.permutation(n), 2) for n in measured.shape]
    blocks: list[Any] = [np.ix_(subsets, queries) for subsets, queries in product(*halves)]
    tables = [(predicted[:, *block], measured[block]) for block in blocks]
    weights = [stacking_weights(rows[:parts], losses) for rows, losses in tables]
    values = [
        mean_lds(np.concatenate([rows, np.tensordot(other, rows[:parts], 1)[None]]), losses)
        for (rows, losses), other in zip(tables, reversed(weights), strict=True)  # the opposite's
    ]
    best = [int(of_block[:parts].argmax()) for of_block in reversed(values)]  # in the opposite
    numbers = [
        np.concatenate([of_block[:-1], of_block[[choice, -1]]])
        for of_block, choice in zip(values, best, strict=True)
    ]
    chosen = np.bincount(best, minlength=parts) / len(best)
    return np.concatenate([np.mean(numbers, 0), np.mean(weights, 0), chosen])


def _verdict(difference: Row) -> str:
    """Whether a joined score is better than the best part, by interval and permutation test."""
    low, high = difference["low"], difference["high"]
    if low is None or difference["p"] > LEVEL or low <= 0 <= high:
        return "undecided"
    return "better" if low > 0 else "not better"
