"""Agreement of scores with retraining, its noise ceiling, and confidence intervals."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from begat.config.fields import MAX_COUNT, param
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job, Name
from begat.stages.declaration import SCORES, Stage
from begat.storage.artifacts import Block

if TYPE_CHECKING:
    from begat.evaluation.agreement import Counterfactuals


@dataclass(frozen=True)
class Metrics:
    """How scores are compared with retraining."""

    resamples: int = param(
        "resamples for each interval, permutations for each p-value", ge=20, le=MAX_COUNT
    )


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    kinds = ("subset", "group_subset")
    inputs: list[Name] = [("images", "all"), *table.scores(), ("aggregated", "all")]
    inputs += [*table.names("measurements", *kinds), *table.names("counterfactuals")]
    yield table.make("metrics", "all", inputs, splits=table.spec.of_kind(*kinds))


def cost(sizes: JobSizes) -> Cost:
    """Returns what forecasts for every subset take, once for each resample."""
    methods, splits = sizes.all_methods, sizes.params.splits
    scores = float(methods * sizes.all_queries * sizes.images)
    subsets = splits.subsets + splits.group_subsets * sizes.groups / sizes.images
    work = sizes.params.of(Metrics).resamples * subsets * scores
    summary = methods * (10_000.0 + 400 * sizes.all_queries), 1  # mostly JSON
    arrays = "lds group_lds logo_spearman"
    return sizes.cost("arrays", work, 12 * scores, arrays, more=summary, method=methods)


def run(context: JobContext) -> None:
    """Compare all scores with retraining, and write the headline numbers for DVC."""
    summary: dict[str, Any] = {}
    methods: list[str] = []
    files: dict[str, str] = {}
    context.materialise(
        lambda context: _tables(context, summary, methods, files),
        files=files,
        summary=summary,
        methods=methods,
    )


def _tables(
    context: JobContext, summary: dict[str, Any], methods: list[str], files: dict[str, str]
) -> Iterator[Block]:
    import json

    import numpy as np

    from begat.diffusion.pixels import to_model_range
    from begat.ensembles.exposure import group_exposure
    from begat.evaluation.agreement import GroundTruth, agreement_tables, evaluate, headline
    from begat.evaluation.joined_agreement import compare_joined
    from begat.execution.results import additive_scores, first_seeds, losses, train_masks

    images, aggregated = context.input("images"), context.input("aggregated")
    ground_truths = dict[str, GroundTruth]()
    if first := first_seeds(context, "subset"):
        removed = ~train_masks(context, first)
        ground_truths["lds"] = GroundTruth(removed, losses(context, "subset").mean(-1))
    if first := first_seeds(context, "group_subset"):
        removed = ~group_exposure(images["member_of"], train_masks(context, first)).T
        ground_truths["group_lds"] = GroundTruth(removed, losses(context, "group_subset").mean(-1))
    group_scores = dict(zip(aggregated.attributes["methods"], aggregated["score"], strict=True))
    scores = additive_scores(context), group_scores, images["member_of"], ground_truths
    seed, resamples = context.seed, context.params.of(Metrics).resamples
    agreement, tables = evaluate(
        *scores,
        dict(_counterfactuals(context)),
        to_model_range(images["pixels"].astype(np.float64)),
        seed=seed,
        resamples=resamples,
    )
    parts = context.input("scores_joined").attributes["parts"]
    joined = compare_joined(parts, *scores, seed=seed, resamples=resamples)
    summary |= agreement | {"joined": joined}
    files["metrics.json"] = json.dumps(headline(agreement), indent=1) + "\n"
    files |= {f"{name}.csv": text for name, text in agreement_tables(agreement).items()}
    methods += dict.fromkeys(method for table in tables.values() for method in table)
    missing = np.full(aggregated["score"].shape[1], np.nan)
    for table in ("lds", "group_lds", "logo_spearman") if methods else ():
        yield {table: np.stack([tables.get(table, {}).get(m, missing) for m in methods])}


def _counterfactuals(context: JobContext) -> Iterator[tuple[str, "Counterfactuals"]]:
    """Yields the counterfactual images of each ensemble."""
    from begat.evaluation.agreement import Counterfactuals
    from begat.evaluation.removals import groups_of_images
    from begat.execution.results import counterfactual_images

    images = context.input("images")
    units = {
        "group_member-": groups_of_images(images["member_of"]),
        "member-": images["cluster"][:, None],
    }
    for name, kind in (("groups_redrawn", "group_member-"), ("images_redrawn", "member-")):
        if artifacts := context.inputs("counterfactuals", kind):
            slots = artifacts[0].attributes["slots"] if kind == "member-" else []
            helpful = sum(slot.startswith("helpful") for slot in slots)
            arrays = counterfactual_images(context, kind)
            yield name, Counterfactuals(**arrays, units=units[kind], helpful=helpful)


STAGE = Stage(
    "metrics",
    "seed",
    f"images splits measurements counterfactuals {SCORES} aggregated",
    jobs,
    run,
    section=Metrics,
    cost=cost,
)
