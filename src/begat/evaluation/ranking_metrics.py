"""Agreement of two rankings of units: each metric per query, each with its level by chance.

``score`` is judged against ``gold``, both ``[query, unit]``; a unit's *rank* is 1 for the largest
value. Among K units. Equal values share their ranks: a metric is its expectation over all orders
that they could be in, so that a score that tells no unit from another reaches the level of chance.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from begat.evaluation.statistics import spearman

Table = Float[np.ndarray, "query unit"]
PerQuery = Float[np.ndarray, " query"]
Ranks = Int[np.ndarray, "query unit"]
PerRank = Float[np.ndarray, " rank"]
PERSISTENCE = 0.9  # of rank-biased overlap
DEEPEST = 350  # its weight below this depth is less than float64's rounding


def shared_ranks(values: Table) -> tuple[Ranks, Ranks]:
    """The first and the last of the ranks that each unit could have; without ties the same."""
    order = np.argsort(-values, axis=1, kind="stable")
    ordered, places = np.take_along_axis(values, order, 1), np.arange(1, values.shape[1] + 1)
    edge = np.ones((len(values), 1), bool)
    differs = ordered[:, 1:] != ordered[:, :-1]
    starts, ends = np.concatenate([edge, differs], 1), np.concatenate([differs, edge], 1)
    first, last = np.zeros((2, *values.shape), int)
    np.put_along_axis(first, order, np.maximum.accumulate(np.where(starts, places, 0), 1), 1)
    back = np.where(ends, places, len(places))[:, ::-1]
    np.put_along_axis(last, order, np.minimum.accumulate(back, 1)[:, ::-1], 1)
    return first, last


def expected(values: Table, worth: PerRank) -> Table:
    """For every unit, the mean of ``worth[rank - 1]`` over the ranks it could have."""
    first, last = shared_ranks(values)
    total = np.concatenate([[0.0], np.cumsum(worth)])
    mean = (total[last] - total[first - 1]) / (last - first + 1)
    return np.where(first == last, worth[first - 1], mean)


def _among_best(ranks: tuple[Ranks, Ranks], k: int) -> Table:
    """The probability that a unit is among the k best."""
    first, last = ranks
    return np.clip((k + 1 - first) / (last + 1 - first), 0, 1)


def _shared_best(score: Table, gold: Table, k: int) -> PerQuery:
    """How many of gold's k best units are among the score's k best."""
    best = (_among_best(shared_ranks(values), k) for values in (score, gold))
    return np.multiply(*best).sum(1)


def top1(score: Table, gold: Table) -> PerQuery:
    """1 where the two agree on the best unit. By chance 1/K."""
    return _shared_best(score, gold, 1)


def top3(score: Table, gold: Table) -> PerQuery:
    """Share of gold's three best units among the score's three best. By chance 3/K."""
    best = min(3, score.shape[1])
    return _shared_best(score, gold, best) / best


def mrr(score: Table, gold: Table) -> PerQuery:
    """Reciprocal of the rank that the score gives to gold's best unit."""
    reciprocal = expected(score, 1 / np.arange(1, score.shape[1] + 1))
    return (reciprocal * _among_best(shared_ranks(gold), 1)).sum(1)


def linear_gain(units: int) -> PerRank:
    """K - rank + 1 (as published for styles)."""
    return units - np.arange(units, dtype=float)


def exponential_gain(units: int) -> PerRank:
    """2^(K - rank) - 1 (as published for classes), over 2^K: large K would overflow."""
    return 2.0 ** -np.arange(1.0, units + 1) - 2.0**-units


Gain = Callable[[int], PerRank]


def ndcg(score: Table, gold: Table, gain: Gain, k: int = 3) -> PerQuery:
    """Gain of the score's k best units, discounted by 1/log2(place + 1), over the best possible.

    A unit's gain follows from its rank in gold. The two gains differ in their chance level (for
    ten units .29 and .60), so that they must never be compared.
    """
    discount = _discount(k, score.shape[1])
    gains = gain(score.shape[1])
    return (expected(score, discount) * expected(gold, gains)).sum(1) / (gains @ discount)


def _discount(k: int, units: int) -> PerRank:
    place = np.arange(1, units + 1)
    return np.where(place <= k, 1 / np.log2(place + 1), 0.0)


def rbo(score: Table, gold: Table) -> PerQuery:
    """Rank-biased overlap: (1-p) sum_d p^(d-1) overlap_d / d over depths d = 1 .. K, p = 0.9.

    Truncated at K, so that its maximum is 1 - p^K. Webber et al. 2010.
    """
    ranks, total = (shared_ranks(score), shared_ranks(gold)), np.zeros(len(score))
    for depth in range(1, min(score.shape[1], DEEPEST) + 1):
        overlap = np.multiply(*(_among_best(side, depth) for side in ranks)).sum(1)
        total += PERSISTENCE ** (depth - 1) * overlap / depth
    return (1 - PERSISTENCE) * total


def wpra(score: Table, gold: Table, m: int = 3) -> PerQuery:
    """Weighted pairwise agreement: share of the weight of pairs that are ordered rightly.

    A pair weighs as much as gold tells its units apart, and counts where one of them is among
    gold's m best (of equals the first). A tie is half right, however small gold's differences are.
    By chance 1/2; also where gold tells nothing apart.
    """
    order = np.argsort(-gold, axis=1, kind="stable")
    gold, score = (np.take_along_axis(values, order, 1) for values in (gold, score))
    total, right = np.zeros(len(gold)), np.zeros(len(gold))
    for head in range(min(m, gold.shape[1])):
        weight = gold[:, head, None] - gold[:, head + 1 :]
        above = (np.sign(score[:, head, None] - score[:, head + 1 :]) + 1) / 2
        total += weight.sum(1)
        right += (weight * above).sum(1)
    return np.divide(right, total, out=np.full(len(gold), 0.5), where=total > 0)


METRICS: dict[str, Callable[[Table, Table], PerQuery]] = {
    "top1": top1,
    "top3": top3,
    "mrr": mrr,
    "ndcg_exp": lambda score, gold: ndcg(score, gold, exponential_gain),
    "ndcg_lin": lambda score, gold: ndcg(score, gold, linear_gain),
    "rbo": rbo,
    "wpra": wpra,
    "spearman": spearman,
}


def chance(units: int) -> dict[str, float]:
    """What a random order reaches in the mean, for every metric, among this many units.

    That is what a score reaches that ties all of them.
    """
    gold = np.arange(units, dtype=float)[None]
    return {name: float(metric(gold * 0, gold)[0]) for name, metric in METRICS.items()}
