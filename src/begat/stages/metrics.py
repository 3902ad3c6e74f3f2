"""How well scores predict what retraining does, how well anything could, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from begat.core.agreement import METRICS, chance
from begat.core.distances import nearest
from begat.core.seeds import numpy_generator
from begat.core.statistics import (
    Measured,
    ceiling,
    half_samples,
    interval,
    lds,
    permutation_p,
    reliability,
    removed_sum,
    spearman,
)

RIVAL = "pixel_rbf"  # the free rival that every method is compared with
TRUTH = "logo_"  # how the rows begin that are the truth at group level
TRAININGS = ("independent", "paired", "retrained")  # the first there is judges
GOLDS = tuple(f"{TRUTH}{part}{name}" for part in ("", "elbo_") for name in TRAININGS)
ANOTHER = {"independent": "paired", "paired": "independent"}
PUBLISHED_SCALE = (256 * 256 * 3) ** 0.5  # of pixel distances: images as 256 x 256 x 3 in 0..1
Summary = dict[str, Any]
Scores = Mapping[str, Float[np.ndarray, "query unit"]]


@dataclass(frozen=True)
class Truth:
    """Models retrained on subsets: what each lacked, and the losses measured."""

    removed: Bool[np.ndarray, "subset unit"]
    measured: Measured


@dataclass(frozen=True)
class Redrawn:
    """Counterfactual images: the arrays of their schema, and the unit of every training image."""

    factual: Float[np.ndarray, "query channel y x"]
    pixels: Float[np.ndarray, "query slot channel y x"]
    unit: Int[np.ndarray, "query slot"]
    distance: Float[np.ndarray, "query slot"]
    unit_of: Int[np.ndarray, " image"]


def evaluate(
    image_scores: Mapping[str, Float[np.ndarray, "query image"]],
    group_scores: Mapping[str, Float[np.ndarray, "query group"]],
    truths: Mapping[str, Truth],
    redrawn: Mapping[str, Redrawn],
    training: Float[np.ndarray, "image channel y x"],
    *,
    seed: int,
    resamples: int,
) -> tuple[Summary, dict[str, dict[str, Float[np.ndarray, " query"]]]]:
    """Everything that can be said of the scores at hand.

    Args:
        image_scores: method -> scores of images, as they may be summed.
        group_scores: method -> scores of groups; those called ``logo_...`` are their truth.
        truths: ``lds`` (halves of the images) and ``group_lds`` (of the groups), as far as trained.
        redrawn: ``images_redrawn`` and ``groups_redrawn``, as far as drawn.
        training: the training images, for the attributor whose false attributions are counted.
        seed: the root seed.
        resamples: halves and permutations drawn for each interval.

    Returns:
        A summary, and per table and method the value of each query.
    """
    how = {"seed": seed, "resamples": resamples}
    summary: Summary = {}
    tables: dict[str, dict[str, np.ndarray]] = {}
    for name, truth in truths.items():
        scores = group_scores if name == "group_lds" else image_scores
        found = subset_agreement(scores, truth.removed, truth.measured, name=name, **how)
        summary[name], tables[name] = found
    golds = [gold for gold in GOLDS if gold in group_scores]
    if golds:
        summary["logo"] = {"judge": golds[0], "chance": chance(group_scores[golds[0]].shape[1])}
    for gold in golds:
        summary["logo"][gold], ranks = gold_agreement(group_scores, gold, **how)
        tables.setdefault("logo_spearman", ranks)
    for name, images in redrawn.items():
        named = images.unit[0] >= 0
        without = nearest_unit(images.pixels[:, named], training, images.unit_of)
        blamed = nearest_unit(images.factual, training, images.unit_of)
        far = false_attribution(blamed, without, images.unit[:, named], **how)
        distances = radius(images.distance[:, named], images.distance[:, ~named], **how)
        summary[name] = {"false_attribution": {"pixel_nearest": far}, **distances}
    return summary, tables


def headline(summary: Summary, leading: Sequence[str]) -> Summary:
    """The few numbers to compare runs by: the leading methods, and what bounds them.

    Args:
        summary: from ``evaluate``.
        leading: the methods to report.
    """

    def brief(rows: Summary) -> dict[str, float]:
        return {m: round(rows[m]["value"], 4) for m in leading if m in rows}

    found: Summary = {}
    for name in ("lds", "group_lds"):
        if name in summary:
            found[name] = brief(summary[name]["methods"])
            if "ceiling" in summary[name]:
                found[name]["ceiling"] = round(summary[name]["ceiling"], 4)
    if "logo" in summary:
        judged = summary["logo"][summary["logo"]["judge"]]
        found |= {f"logo_{part}": brief(judged[part]) for part in ("spearman", "top1")}
    for name in ("groups_redrawn", "images_redrawn"):
        if name in summary:
            rate = summary[name]["false_attribution"]["pixel_nearest"]
            rows = {"radius": summary[name]["radius"], "false_attribution": rate}
            found[name] = {part: round(row["value"], 4) for part, row in rows.items()}
    return found


def subset_agreement(
    scores: Scores,
    removed: Bool[np.ndarray, "subset unit"],
    measured: Measured,
    *,
    name: str,
    seed: int,
    resamples: int,
) -> tuple[Summary, dict[str, Float[np.ndarray, " query"]]]:
    """LDS of every method against models retrained on subsets, with what bounds it.

    Beside the methods stand ``random`` scores and ``query_independent``: the measured losses of
    all other queries, which know nothing of the query at hand.

    Returns:
        A summary (per method: value, interval, permutation p, paired difference from the pixel
        rival; the ceiling), and each method's LDS per query.
    """
    noise = numpy_generator(seed, "metrics", name, "random").normal(
        size=(measured.shape[2], removed.shape[1])
    )
    predicted = {
        method: removed_sum(score.astype(np.float64), removed.astype(np.float64))
        for method, score in {**scores, "random": noise}.items()
    }
    predicted["query_independent"] = mean_of_others(measured.mean(1), axis=1)
    methods = list(predicted)
    table = np.stack(list(predicted.values()))  # method, subset, query

    def means(subsets: np.ndarray, queries: np.ndarray) -> np.ndarray:
        truth = measured.mean(1)[np.ix_(subsets, queries)]
        some = table[:, subsets][:, :, queries]
        return spearman(some.transpose(0, 2, 1), truth.T[None]).mean(1)

    generator = numpy_generator(seed, "metrics", name, "halves")
    sizes = (len(removed), measured.shape[2])
    values, deviations = half_samples(means, sizes, generator, resamples)
    summary = _per_method(methods, values, deviations)
    for method, row in summary.items():
        shuffles = numpy_generator(seed, "metrics", name, method)
        row["p"] = permutation_p(predicted[method], measured, shuffles, resamples)
    per_query = {method: lds(p, measured) for method, p in predicted.items()}
    bounds: Summary = {"subsets": len(removed), "seeds": measured.shape[1]}
    if measured.shape[1] > 1:
        bounds |= {"seed_correlation": reliability(measured), "ceiling": ceiling(measured)}
    return {"methods": summary, **bounds}, per_query


def gold_agreement(
    scores: Scores, gold: str, *, seed: int, resamples: int
) -> tuple[Summary, dict[str, Float[np.ndarray, " query"]]]:
    """Agreement of group scores with the real leave-one-group-out called ``gold``.

    Among the methods stands ``another_training``: what retraining the same models with another
    seed reaches, the level above which agreement with one training means nothing; and
    ``query_independent``, the truth of all other queries.

    Returns:
        A summary (metric -> method -> value and interval); each method's rank correlations.
    """
    truth = scores[gold]
    table = {method: s for method, s in scores.items() if not method.startswith(TRUTH)}
    truth_in, _, training = gold.rpartition("_")
    other = f"{truth_in}_{ANOTHER[training]}" if training in ANOTHER else ""
    table |= {"another_training": scores[other]} if other else {}
    table["query_independent"] = mean_of_others(truth, axis=0)
    values = np.stack([[measure(s, truth) for s in table.values()] for measure in METRICS.values()])
    generator = numpy_generator(seed, "metrics", gold, "halves")
    whole, deviations = half_samples(
        lambda queries: values[:, :, queries].mean(2), (len(truth),), generator, resamples
    )
    summary = {
        name: _per_method(list(table), whole[i], deviations[:, i]) for i, name in enumerate(METRICS)
    }
    return summary, dict(zip(table, values[list(METRICS).index("spearman")], strict=True))


def _per_method(
    methods: list[str],
    values: Float[np.ndarray, " method"],
    deviations: Float[np.ndarray, "resample method"],
) -> dict[str, Summary]:
    summary: dict[str, Summary] = {}
    for i, method in enumerate(methods):
        summary[method] = interval(values[i], deviations[:, i])
        if RIVAL in methods and method != RIVAL:
            j = methods.index(RIVAL)
            difference = interval(values[i] - values[j], deviations[:, i] - deviations[:, j])
            summary[method]["minus_pixel"] = difference
    return summary


def mean_of_others(values: Float[np.ndarray, "a b"], axis: int) -> Float[np.ndarray, "a b"]:
    """For each entry along ``axis``, the mean of all the others."""
    n = values.shape[axis]
    return (values.sum(axis, keepdims=True) - values) / max(n - 1, 1)


def radius(
    distance: Float[np.ndarray, "query unit"],
    null: Float[np.ndarray, "query null"],
    *,
    seed: int,
    resamples: int,
) -> Summary:
    """How far the farthest counterfactual image lies, against as many unused codes.

    The radius depends on the set of codes only, not on who holds which, so by itself it says
    nothing of any named unit: ``null`` is the radius over codes that no unit holds, ``excess`` the
    difference. Source: Dai & Gifford, arXiv 2406.07908; ``published`` is on their scale.
    """
    rows = {"radius": distance.max(1)}
    if null.shape[1]:
        rows |= {"null": null.max(1), "excess": rows["radius"] - null.max(1)}
    table = np.stack(list(rows.values()))
    generator = numpy_generator(seed, "metrics", "radius")
    values, deviations = half_samples(
        lambda queries: table[:, queries].mean(1), (len(distance),), generator, resamples
    )
    summary: Summary = {n: interval(values[i], deviations[:, i]) for i, n in enumerate(rows)}
    return {**summary, "published": {"value": float(values[0]) * PUBLISHED_SCALE}}


def false_attribution(
    blamed: Int[np.ndarray, " query"],
    blamed_without: Int[np.ndarray, "query slot"],
    removed: Int[np.ndarray, "query slot"],
    *,
    seed: int,
    resamples: int,
) -> Summary:
    """How often an attributor still blames a unit that cannot have been the cause.

    far = P(blames u on the image drawn without u) / P(blames u on one drawn without another unit),
    u being what it blames on the factual image. 0 is best; 1 means it does not see the removal.
    Source: Dai & Gifford 2026 (Nature Communications 17, 6974).
    """
    own = removed == blamed[:, None]
    same = blamed_without == blamed[:, None]
    fair = own.any(1) & (~own).any(1)  # not so where what is blamed belongs to no unit
    after = np.array([s[o].mean() for s, o in zip(same[fair], own[fair], strict=True)])
    other = np.array([s[~o].mean() for s, o in zip(same[fair], own[fair], strict=True)])

    def rate(queries: np.ndarray) -> np.ndarray:
        base = other[queries].mean()
        return np.array(after[queries].mean() / base if base > 0 else 0.0)

    generator = numpy_generator(seed, "metrics", "far")
    value, deviations = half_samples(rate, (len(after),), generator, resamples)
    summary = interval(float(value), deviations)
    return {**summary, "without_it": float(after.mean()), "without_another": float(other.mean())}


def nearest_unit(
    images: Float[np.ndarray, "*batch channel y x"],
    training: Float[np.ndarray, "image channel y x"],
    unit: Int[np.ndarray, " image"],
) -> Int[np.ndarray, "*batch"]:
    """The unit of the training image nearest to each image: the simplest attributor."""
    flat = images.reshape(-1, *images.shape[-3:])
    return unit[nearest(flat, training)].reshape(images.shape[:-3])
