"""How well scores predict what retraining does, how well anything could, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from begat.evaluation.calibration import calibration
from begat.evaluation.lds import subset_agreement
from begat.evaluation.logo_agreement import gold_agreement, judged
from begat.evaluation.predictions import (
    GroupScores,
    ImageScores,
    MemberOf,
    group_forecasts,
    group_sizes,
    image_forecasts,
)
from begat.evaluation.ranking_metrics import chance
from begat.evaluation.removals import Units, false_attribution, nearest_images, radius
from begat.evaluation.statistics import Measured

TRAININGS = ("independent", "paired", "retrained")  # the first there is judges
GOLDS = tuple(f"logo_{part}{name}" for part in ("", "elbo_") for name in TRAININGS)
Summary = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """Models retrained on subsets: what each lacked, and the losses measured."""

    removed: Bool[np.ndarray, "subset unit"]
    measured: Measured


@dataclass(frozen=True)
class Redrawn:
    """Counterfactual images: the arrays of their schema, and what the false attributions need.

    ``units``: the units that every training image belongs to; ``helpful``: the first so many slots
    lack units that were chosen as helpful, against which nothing may be compared.
    """

    factual: Float[np.ndarray, "query channel y x"]
    pixels: Float[np.ndarray, "query slot channel y x"]
    unit: Int[np.ndarray, "query slot"]
    distance: Float[np.ndarray, "query slot"]
    units: Units
    helpful: int


def evaluate(
    image_scores: ImageScores,
    group_scores: GroupScores,
    member_of: MemberOf,
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
        member_of: which image belongs to which group.
        truths: ``lds`` (halves of the images) and ``group_lds`` (of the groups), as far as trained.
        redrawn: ``images_redrawn`` and ``groups_redrawn``, as far as drawn.
        training: the training images, for the attributor whose false attributions are counted.
        seed: the root seed.
        resamples: halves and shuffles drawn for each interval and p-value.

    Returns:
        A summary, and per table and method the value of each query.
    """
    how = {"seed": seed, "resamples": resamples}
    summary: Summary = {}
    tables: dict[str, dict[str, np.ndarray]] = {}
    forecasts = {
        "lds": image_forecasts(image_scores),
        "group_lds": group_forecasts(group_scores, image_scores, member_of),
    }
    for name, truth in truths.items():
        summary[name], tables[name] = subset_agreement(
            forecasts[name], truth.removed, truth.measured, name=name, **how
        )
    golds = [gold for gold in GOLDS if gold in group_scores]
    if golds:
        summary["logo"] = {"judge": golds[0], "chance": chance(len(member_of))}
        judges = [golds[0], golds[0].replace("logo_", "logo_elbo_")]
        summary["calibration"] = {
            gold: calibration(judged(group_scores, gold), group_scores[gold], name=gold, **how)
            for gold in judges
            if gold in group_scores
        }
    for gold in golds:
        size = group_sizes(member_of, len(group_scores[gold]))
        rows = {**group_scores, "group_size": size}
        summary["logo"][gold], ranks = gold_agreement(rows, gold, **how)
        tables.setdefault("logo_spearman", ranks)
    for name, images in redrawn.items():
        summary[name] = redrawn_measures(images, training, **how)
    return summary, tables


def headline(summary: Summary) -> Summary:
    """The few numbers to compare runs by, of a summary from ``evaluate``, and what bounds them."""

    def brief(rows: Summary) -> dict[str, float]:
        values = {name: row["value"] for name, row in rows.items()}
        return {name: round(v, 4) for name, v in values.items() if v is not None}

    found: Summary = {}
    for name in ("lds", "group_lds"):
        if name in summary:
            bounds = {part: summary[name][part] for part in ("ceiling",) if part in summary[name]}
            found[name] = brief(summary[name]["methods"] | bounds)
    if "logo" in summary:
        judged = summary["logo"][summary["logo"]["judge"]]
        found |= {f"logo_{part}": brief(judged[part]) for part in ("spearman", "top1")}
    for name in ("groups_redrawn", "images_redrawn"):
        if name in summary:
            rate = summary[name]["false_attribution"]["pixel_nearest"]
            found[name] = brief({"radius": summary[name]["radius"], "false_attribution": rate})
    return found


def redrawn_measures(
    images: Redrawn, training: Float[np.ndarray, "image channel y x"], *, seed: int, resamples: int
) -> Summary:
    """The radius of counterfactual images, and the rate of false attributions by pixels."""
    named = images.unit[0] >= 0
    judged = named & (np.arange(len(named)) >= images.helpful)
    far = false_attribution(
        images.units[nearest_images(images.factual, training)],
        images.units[nearest_images(images.pixels[:, judged], training)],
        images.unit[:, judged],
        seed=seed,
        resamples=resamples,
    )
    null = images.distance[:, ~named]
    distances = radius(images.distance[:, named], null, seed=seed, resamples=resamples)
    return {"false_attribution": {"pixel_nearest": far}, **distances}
