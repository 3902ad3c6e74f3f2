"""Agreement of scores with retraining, its noise ceiling, and confidence intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from begat.evaluation.calibration import calibration
from begat.evaluation.lds import subset_agreement
from begat.evaluation.logo_agreement import logo_agreement, methods_and_baselines
from begat.evaluation.predictions import (
    GroupScores,
    ImageScores,
    MemberOf,
    group_forecasts,
    group_sizes,
    image_forecasts,
)
from begat.evaluation.ranking_metrics import chance_levels
from begat.evaluation.removals import (
    Units,
    counterfactual_radius,
    false_attribution_rate,
    nearest_images,
)
from begat.evaluation.statistics import Measured

TRAININGS = ("independent", "paired", "retrained")  # the first available is the main reference
LOGO_ROWS = tuple(f"logo_{part}{name}" for part in ("", "elbo_") for name in TRAININGS)
Summary = dict[str, Any]
Tables = dict[str, dict[str, Float[np.ndarray, " query"]]]


@dataclass(frozen=True)
class GroundTruth:
    """Models retrained on subsets: the units each lacked, and the losses measured."""

    removed: Bool[np.ndarray, "subset unit"]
    measured: Measured


@dataclass(frozen=True)
class Counterfactuals:
    """Counterfactual images: the arrays of their schema, and the units of training images.

    Attributes:
        units: the units that every training image belongs to.
        helpful: the first so many slots lack units chosen as helpful, which the false attribution
            rate leaves out.
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
    ground_truths: Mapping[str, GroundTruth],
    counterfactuals: Mapping[str, Counterfactuals],
    training: Float[np.ndarray, "image channel y x"],
    *,
    seed: int,
    resamples: int,
) -> tuple[Summary, Tables]:
    """Returns a summary of all agreement, and per table and method the value of each query.

    Args:
        image_scores: method -> additive scores of images.
        group_scores: method -> scores of groups; those called ``logo_...`` are ground truth.
        member_of: true where an image belongs to a group.
        ground_truths: ``lds`` (subsets of images) and ``group_lds`` (of groups), if trained.
        counterfactuals: ``images_redrawn`` and ``groups_redrawn``, if generated.
        training: the training images, for the false attributions of the nearest image.
        seed: the root seed.
        resamples: half-samples for each interval, permutations for each p-value.
    """
    sampling = {"seed": seed, "resamples": resamples}
    forecasts = {
        "lds": image_forecasts(image_scores),
        "group_lds": group_forecasts(group_scores, image_scores, member_of),
    }
    summary, tables = Summary(), Tables()
    for name, truth in ground_truths.items():
        summary[name], tables[name] = subset_agreement(
            forecasts[name], truth.removed, truth.measured, name=name, **sampling
        )
    references = [name for name in LOGO_ROWS if name in group_scores]
    if references:
        logo, tables["logo_spearman"] = _logo(group_scores, references, member_of, **sampling)
        summary |= logo
    for name, images in counterfactuals.items():
        summary[name] = counterfactual_measures(images, training, **sampling)
    return summary, tables


def _logo(
    scores: GroupScores, references: list[str], member_of: MemberOf, *, seed: int, resamples: int
) -> tuple[Summary, dict[str, Float[np.ndarray, " query"]]]:
    """Returns agreement and calibration against LOGO; rank correlations with the main reference."""
    main, sampling = references[0], {"seed": seed, "resamples": resamples}
    logo: Summary = {"reference": main, "chance": chance_levels(len(member_of))}
    rows = {**scores, "group_size": group_sizes(member_of, len(scores[main]))}
    agreement = {name: logo_agreement(rows, name, **sampling) for name in references}
    logo |= {name: metrics for name, (metrics, _) in agreement.items()}
    sizes = {
        name: calibration(methods_and_baselines(scores, name), scores[name], name=name, **sampling)
        for name in (main, main.replace("logo_", "logo_elbo_"))
        if name in scores
    }
    return {"logo": logo, "calibration": sizes}, agreement[main][1]


def headline(summary: Summary) -> Summary:
    """Returns the few numbers to compare runs by, of a summary from ``evaluate``, with ceilings."""

    def values(rows: Summary) -> dict[str, float]:
        table = {name: row["value"] for name, row in rows.items()}
        return {name: round(v, 4) for name, v in table.items() if v is not None}

    numbers: Summary = {}
    for name in ("lds", "group_lds"):
        if name in summary:
            bounds = {part: summary[name][part] for part in ("ceiling",) if part in summary[name]}
            numbers[name] = values(summary[name]["methods"] | bounds)
    if "logo" in summary:
        metrics = summary["logo"][summary["logo"]["reference"]]
        numbers |= {f"logo_{name}": values(metrics[name]) for name in ("spearman", "top1")}
    for name in ("groups_redrawn", "images_redrawn"):
        if name in summary:
            rate = summary[name]["false_attribution"]["pixel_nearest"]
            numbers[name] = values({"radius": summary[name]["radius"], "false_attribution": rate})
    return numbers


def agreement_tables(summary: Summary) -> dict[str, str]:
    """Returns each main table of a summary from ``evaluate`` as CSV, for ``dvc plots``."""
    tables: Summary = {
        name: summary[name]["methods"] for name in ("lds", "group_lds") if name in summary
    }
    if "logo" in summary:
        tables["logo"] = summary["logo"][summary["logo"]["reference"]]["spearman"]
    return {name: _csv(rows) for name, rows in tables.items()}


def _csv(rows: Summary) -> str:
    columns = ("value", "low", "high")
    lines = [",".join(("method", *columns))]
    for method, row in rows.items():
        if row["value"] is not None:
            cells = ("" if row[c] is None else f"{row[c]:.4f}" for c in columns)  # no interval
            lines.append(",".join((method, *cells)))
    return "\n".join(lines) + "\n"


def counterfactual_measures(
    images: Counterfactuals,
    training: Float[np.ndarray, "image channel y x"],
    *,
    seed: int,
    resamples: int,
) -> Summary:
    """Returns the radius of counterfactual images, and the false attribution rate of pixels."""
    is_unit = images.unit[0] >= 0
    compared = is_unit & (np.arange(len(is_unit)) >= images.helpful)
    rate = false_attribution_rate(
        images.units[nearest_images(images.factual, training)],
        images.units[nearest_images(images.pixels[:, compared], training)],
        images.unit[:, compared],
        seed=seed,
        resamples=resamples,
    )
    radius = counterfactual_radius(
        images.distance[:, is_unit], images.distance[:, ~is_unit], seed=seed, resamples=resamples
    )
    return {"false_attribution": {"pixel_nearest": rate}, **radius}
