"""Ranking metrics with expected ties: top-k overlap, MRR, NDCG, RBO, WPRA, Spearman; chance levels.

``score`` is compared with ``reference``, both ``[query, unit]``; a unit's *rank* among K units is 1
for the largest value. Equal values share their ranks: a metric is its expectation over all orders
of the tied units, so that a score that ties all units reaches the chance level.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from begat.evaluation.statistics import spearman

Table = Float[np.ndarray, "query unit"]
PerQuery = Float[np.ndarray, " query"]
Ranks = Int[np.ndarray, "query unit"]
PerRank = Float[np.ndarray, " rank"]
PERSISTENCE = 0.9  # p of rank-biased overlap
MAX_DEPTH = 350  # the weight of rank-biased overlap below this depth is under float64's rounding


def shared_ranks(values: Table) -> tuple[Ranks, Ranks]:
    """Returns the first and the last possible rank of each unit; the same without ties."""
    order = np.argsort(-values, axis=1, kind="stable")
    ordered, ranks = np.take_along_axis(values, order, 1), np.arange(1, values.shape[1] + 1)
    edge = np.ones((len(values), 1), bool)
    differs = ordered[:, 1:] != ordered[:, :-1]
    starts, ends = np.concatenate([edge, differs], 1), np.concatenate([differs, edge], 1)
    first, last = np.zeros((2, *values.shape), int)
    np.put_along_axis(first, order, np.maximum.accumulate(np.where(starts, ranks, 0), 1), 1)
    reversed_ends = np.where(ends, ranks, len(ranks))[:, ::-1]
    np.put_along_axis(last, order, np.minimum.accumulate(reversed_ends, 1)[:, ::-1], 1)
    return first, last


def expected(values: Table, per_rank: PerRank) -> Table:
    """Returns, for every unit, the mean of ``per_rank[rank - 1]`` over its possible ranks."""
    first, last = shared_ranks(values)
    total = np.concatenate([[0.0], np.cumsum(per_rank)])
    mean = (total[last] - total[first - 1]) / (last - first + 1)
    return np.where(first == last, per_rank[first - 1], mean)


def _in_top(ranks: tuple[Ranks, Ranks], k: int) -> Table:
    """Returns the probability that a unit is among the k best."""
    first, last = ranks
    return np.clip((k + 1 - first) / (last + 1 - first), 0, 1)


def _top_overlap(score: Table, reference: Table, k: int) -> PerQuery:
    """Returns the expected number of units that are among the k best of both."""
    in_top = (_in_top(shared_ranks(values), k) for values in (score, reference))
    return np.multiply(*in_top).sum(1)


def top1(score: Table, reference: Table) -> PerQuery:
    """Returns 1 where the two agree on the best unit. Chance level 1/K."""
    return _top_overlap(score, reference, 1)


def overlap_at_3(score: Table, reference: Table) -> PerQuery:
    """Returns the share of the reference's three best units in the score's. Chance level 3/K."""
    k = min(3, score.shape[1])
    return _top_overlap(score, reference, k) / k


def mrr(score: Table, reference: Table) -> PerQuery:
    """Returns the reciprocal of the rank that the score gives to the reference's best unit."""
    reciprocal = expected(score, 1 / np.arange(1, score.shape[1] + 1))
    return (reciprocal * _in_top(shared_ranks(reference), 1)).sum(1)


def linear_gain(units: int) -> PerRank:
    """Returns K - rank + 1 (as published for styles)."""
    return units - np.arange(units, dtype=float)


def exponential_gain(units: int) -> PerRank:
    """Returns 2^(K - rank) - 1 (as published for classes), over 2^K: large K would overflow."""
    return 2.0 ** -np.arange(1.0, units + 1) - 2.0**-units


Gain = Callable[[int], PerRank]


def ndcg(score: Table, reference: Table, gain: Gain, k: int = 3) -> PerQuery:
    """Returns the normalised discounted cumulative gain of the score's k best units.

    The discount is 1/log2(rank + 1); a unit's gain follows from its rank in the reference. The two
    gains differ in their chance level (for ten units .29 and .60), so that they must never be
    compared.
    """
    discount = _discount(k, score.shape[1])
    gains = gain(score.shape[1])
    return (expected(score, discount) * expected(reference, gains)).sum(1) / (gains @ discount)


def _discount(k: int, units: int) -> PerRank:
    rank = np.arange(1, units + 1)
    return np.where(rank <= k, 1 / np.log2(rank + 1), 0.0)


def ndcg_exponential(score: Table, reference: Table) -> PerQuery:
    """Returns NDCG@3 with ``exponential_gain``."""
    return ndcg(score, reference, exponential_gain)


def ndcg_linear(score: Table, reference: Table) -> PerQuery:
    """Returns NDCG@3 with ``linear_gain``."""
    return ndcg(score, reference, linear_gain)


def rbo(score: Table, reference: Table) -> PerQuery:
    """Returns rank-biased overlap: (1-p) sum_d p^(d-1) overlap_d / d over depths d = 1 .. K.

    p = 0.9. Truncated at K, so that its maximum is 1 - p^K. Webber et al. 2010.
    """
    ranks, total = (shared_ranks(score), shared_ranks(reference)), np.zeros(len(score))
    for depth in range(1, min(score.shape[1], MAX_DEPTH) + 1):
        overlap = np.multiply(*(_in_top(side, depth) for side in ranks)).sum(1)
        total += PERSISTENCE ** (depth - 1) * overlap / depth
    return (1 - PERSISTENCE) * total


def wpra(score: Table, reference: Table, m: int = 3) -> PerQuery:
    """Returns weighted pairwise agreement: the share of the weight of correctly ordered pairs.

    A pair's weight is its difference in the reference; it counts where one of its units is among
    the reference's m best (of equals the first). A tie is half correct, however small the
    difference in the reference. Chance level 1/2, also where the reference ties all units.
    """
    order = np.argsort(-reference, axis=1, kind="stable")
    reference, score = (np.take_along_axis(values, order, 1) for values in (reference, score))
    total, correct = np.zeros(len(reference)), np.zeros(len(reference))
    for head in range(min(m, reference.shape[1])):
        weight = reference[:, head, None] - reference[:, head + 1 :]
        above = (np.sign(score[:, head, None] - score[:, head + 1 :]) + 1) / 2
        total += weight.sum(1)
        correct += (weight * above).sum(1)
    return np.divide(correct, total, out=np.full(len(reference), 0.5), where=total > 0)


@dataclass(frozen=True)
class RankingMetric:
    """A metric of the agreement of two rankings.

    Attributes:
        title: in the report.
        per_query: (score, reference) -> value of each query.
        half_sampled: whether its value does not depend on the number of units, so that
            half-sampling of units gives it an interval. The others have larger chance levels among
            half the units, which would make intervals too narrow.
    """

    title: str
    per_query: Callable[[Table, Table], PerQuery]
    half_sampled: bool = False

    def chance_level(self, units: int) -> float:
        """Returns the mean over random orders of this many units, by a score that ties them."""
        reference = np.arange(units, dtype=float)[None]
        return float(self.per_query(reference * 0, reference)[0])


METRICS = {  # of group scores against leave-one-group-out, in the order of the report
    "top1": RankingMetric("top 1", top1, half_sampled=True),
    "overlap_at_3": RankingMetric("overlap at 3", overlap_at_3),
    "mrr": RankingMetric("MRR", mrr, half_sampled=True),
    "ndcg_exp": RankingMetric("NDCG@3, exponential gain", ndcg_exponential),
    "ndcg_lin": RankingMetric("NDCG@3, linear gain", ndcg_linear),
    "rbo": RankingMetric("RBO", rbo),
    "wpra": RankingMetric("WPRA", wpra, half_sampled=True),
    "spearman": RankingMetric("Spearman", spearman, half_sampled=True),
}


def chance_levels(units: int) -> dict[str, float]:
    """Returns the chance level of every metric among this many units."""
    return {name: metric.chance_level(units) for name, metric in METRICS.items()}
