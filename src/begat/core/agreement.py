"""Agreement of two rankings of units: each metric per query, each with its level by chance.

``score`` is judged against ``gold``, both ``[query, unit]``; a unit's *rank* is 1 for the largest
value. Among K units. Equal values are ranked in the order of their units, except by ``wpra``, which
counts a tie as half right, and by rank correlation (``core.statistics.spearman``).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from begat.core.statistics import spearman

Table = Float[np.ndarray, "query unit"]
PerQuery = Float[np.ndarray, " query"]
PERSISTENCE = 0.9  # of rank-biased overlap


def order(values: Table) -> Int[np.ndarray, "query unit"]:
    """Units from the largest value to the smallest."""
    return np.argsort(-values, axis=1, kind="stable")


def ranks(values: Table) -> Int[np.ndarray, "query unit"]:
    """Every unit's rank, 1 for the largest value."""
    return np.argsort(order(values), axis=1) + 1


def top1(score: Table, gold: Table) -> PerQuery:
    """1 where the two agree on the best unit. By chance 1/K."""
    return (order(score)[:, 0] == order(gold)[:, 0]).astype(float)


def top3(score: Table, gold: Table) -> PerQuery:
    """Share of gold's three best units among the score's three best. By chance 3/K."""
    best = min(3, score.shape[1])
    return ((ranks(score) <= best) & (ranks(gold) <= best)).sum(1) / best


def mrr(score: Table, gold: Table) -> PerQuery:
    """Reciprocal of the rank that the score gives to gold's best unit."""
    return 1 / np.take_along_axis(ranks(score), order(gold)[:, :1], 1)[:, 0]


def linear_gain(rank: Int[np.ndarray, "..."], units: int) -> Float[np.ndarray, "..."]:
    """K - rank + 1 (as published for styles)."""
    return (units - rank + 1).astype(float)


def exponential_gain(rank: Int[np.ndarray, "..."], units: int) -> Float[np.ndarray, "..."]:
    """2^(K - rank) - 1 (as published for classes)."""
    return 2.0 ** (units - rank) - 1


Gain = Callable[[Int[np.ndarray, "..."], int], Float[np.ndarray, "..."]]


def ndcg(score: Table, gold: Table, gain: Gain, k: int = 3) -> PerQuery:
    """Gain of the score's k best units, discounted by 1/log2(place + 1), over the best possible.

    A unit's gain follows from its rank in gold. The two gains differ in their chance level (for
    ten units .29 and .60), so that they must never be compared.
    """
    units = score.shape[1]
    discount = _discount(k, units)
    found = np.take_along_axis(ranks(gold), order(score)[:, : len(discount)], 1)
    return gain(found, units) @ discount / _ideal(gain, discount, units)


def _discount(k: int, units: int) -> Float[np.ndarray, " place"]:
    return 1 / np.log2(np.arange(1, min(k, units) + 1) + 1)


def _ideal(gain: Gain, discount: Float[np.ndarray, " place"], units: int) -> float:
    return float(gain(np.arange(1, len(discount) + 1), units) @ discount)


def rbo(score: Table, gold: Table) -> PerQuery:
    """Rank-biased overlap: (1-p) sum_d p^(d-1) overlap_d / d over depths d = 1 .. K, p = 0.9.

    Truncated at K, so that its maximum is 1 - p^K. Webber et al. 2010.
    """
    depth = np.arange(1, score.shape[1] + 1)
    worst = np.maximum(ranks(score), ranks(gold))
    overlap = (worst[:, :, None] <= depth).sum(1)
    return (1 - PERSISTENCE) * (PERSISTENCE ** (depth - 1) * overlap / depth).sum(1)


def rbo_normalised(score: Table, gold: Table) -> PerQuery:
    """Rank-biased overlap over its maximum, 1 - p^K."""
    return rbo(score, gold) / (1 - PERSISTENCE ** score.shape[1])


def wpra(score: Table, gold: Table, m: int = 3) -> PerQuery:
    """Weighted pairwise agreement: share of the weight of pairs that are ordered rightly.

    A pair weighs as much as gold tells its units apart, and counts where one of them is among
    gold's m best. A tie is half right, however small gold's differences are. By chance 1/2; also
    where gold tells nothing apart.
    """
    head = ranks(gold) <= m
    a, b = np.triu_indices(score.shape[1], 1)
    apart = gold[:, a] - gold[:, b]
    weight = np.abs(apart) * (head[:, a] | head[:, b])
    right = (np.sign(score[:, a] - score[:, b]) * np.sign(apart) + 1) / 2
    total = weight.sum(1)
    return np.divide((weight * right).sum(1), total, out=np.full(len(gold), 0.5), where=total > 0)


METRICS: dict[str, Callable[[Table, Table], PerQuery]] = {
    "top1": top1,
    "top3": top3,
    "mrr": mrr,
    "ndcg_exp": lambda score, gold: ndcg(score, gold, exponential_gain),
    "ndcg_lin": lambda score, gold: ndcg(score, gold, linear_gain),
    "rbo": rbo,
    "rbo_normalised": rbo_normalised,
    "wpra": wpra,
    "spearman": spearman,
}


def chance(units: int) -> dict[str, float]:
    """What a random order reaches in the mean, for every metric, among this many units."""
    rank = np.arange(1, units + 1)
    discount = _discount(3, units)
    blind = {
        name: float(gain(rank, units).mean() * discount.sum() / _ideal(gain, discount, units))
        for name, gain in (("ndcg_exp", exponential_gain), ("ndcg_lin", linear_gain))
    }
    overlap = float((1 - PERSISTENCE) * (PERSISTENCE ** (rank - 1) * rank).sum() / units)
    return {
        "top1": 1 / units,
        "top3": min(3, units) / units,
        "mrr": float((1 / rank).mean()),
        **blind,
        "rbo": overlap,
        "rbo_normalised": overlap / (1 - PERSISTENCE**units),
        "wpra": 0.5,
        "spearman": 0.0,
    }
