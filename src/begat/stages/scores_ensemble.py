"""Ablation scores of training images and groups, from encoded ensembles."""

from collections.abc import Iterator
from dataclasses import dataclass

from begat.config.fields import MAX_COUNT, param
from begat.evaluation.measures import LOSS
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job, Name
from begat.execution.methods import Method
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block

METHODS = {
    "ensemble_matched": Method(
        "ensemble, matched",
        "members trained without the unit against random member sets of equal size",
        LOSS,
        headline=True,
    ),
    "ensemble_mirror": Method(
        "ensemble, mirror",
        "members trained without the unit against those trained with it, each side averaged as "
        "one model",
        LOSS,
    ),
    "ensemble_means": Method(
        "ensemble, means",
        "mean loss of single members trained without the unit minus of those trained with it",
        LOSS,
    ),
    "ensemble_naive": Method(
        "ensemble, naive",
        "loss of the members trained without the unit minus loss of all members, as published; "
        "fewer members average less, so every unit seems to help a little",
        LOSS,
    ),
}
LEVELS = {"image": "member", "group": "group_member"}  # level -> kind of its ensemble's models


@dataclass(frozen=True)
class ScoresEnsemble:
    """Scores from encoded ensembles."""

    null_samples: int = param(
        "unused codes behind each p-value; hadamard codes have residuals instead",
        ge=1,
        le=MAX_COUNT,
    )


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    kinds = tuple(LEVELS.values())
    inputs: list[Name] = [("images", "all"), *table.names("measurements", *kinds)]
    yield table.make("scores_ensemble", "all", inputs, splits=table.spec.of_kind(*kinds))


def cost(sizes: JobSizes) -> Cost:
    """Returns what ablating every unit, and every unused code, takes."""
    splits, queries = sizes.params.splits, sizes.all_queries
    null = sizes.params.of(ScoresEnsemble).null_samples
    units = (sizes.images + null) * splits.members + (sizes.groups + null) * splits.group_members
    memory = 12.0 * len(METHODS) * queries * (sizes.images + null)
    arrays = "score p_value uncertainty" if splits.members else ""
    arrays += " group_score group_p_value group_uncertainty" if splits.group_members else ""
    work = float(len(METHODS) * queries * units)
    return sizes.cost("arrays", work, memory, arrays, methods=METHODS)


def run(context: JobContext) -> None:
    """Score the units of both ensembles."""
    from begat.ensembles.scores import NULLS

    splits = context.params.splits
    codes = {"image": splits.code, "group": splits.group_code}
    levels = [n for n, kind in LEVELS.items() if context.inputs("measurements", f"{kind}-")]
    context.materialise_scores(
        _scores,
        enabled=bool(levels),
        of_clusters=True,
        null={level: NULLS[codes[level]] for level in levels},
    )


def _scores(context: JobContext) -> Iterator[Block]:
    from functools import partial

    import numpy as np

    from begat.ensembles.exposure import group_exposure
    from begat.ensembles.scores import score
    from begat.execution.results import concatenated, train_masks

    images, splits = context.input("images"), context.params.splits
    null_samples = context.params.of(ScoresEnsemble).null_samples
    score_level = partial(score, seed=context.seed, null_samples=null_samples)
    if context.inputs("measurements", "member-"):
        gram = concatenated(context, "measurements", "gram", "member-")
        train_mask = train_masks(context, context.spec.of_kind("member"))
        cluster = np.unique(images["cluster"])
        scores = score_level(gram, train_mask.T[cluster], splits.code, level="image")
        cluster_of = np.searchsorted(cluster, images["cluster"])
        yield {name: values[:, :, cluster_of] for name, values in scores.items()}
    if context.inputs("measurements", "group_member-"):
        gram = concatenated(context, "measurements", "gram", "group_member-")
        train_mask = train_masks(context, context.spec.of_kind("group_member"))
        exposure = group_exposure(images["member_of"], train_mask)
        scores = score_level(gram, exposure, splits.group_code, level="group")
        yield {f"group_{name}": values for name, values in scores.items()}


STAGE = Stage(
    "scores_ensemble",
    "seed splits.code splits.group_code",
    "images splits measurements",
    jobs,
    run,
    section=ScoresEnsemble,
    cost=cost,
    methods=METHODS,
    summary=(
        "each unit has a code that says which members of an ensemble train on it; ablate the "
        "members trained on it and measure the change "
        "([2306.02174](https://arxiv.org/abs/2306.02174), "
        "[2406.07908](https://arxiv.org/abs/2406.07908))"
    ),
    price="one ensemble for all units",
)
