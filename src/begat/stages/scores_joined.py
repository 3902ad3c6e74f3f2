"""Joined scores: sums of the scores of several methods, without any ground truth."""

from collections.abc import Iterator
from dataclasses import dataclass

from begat.config.consistency import refuse
from begat.config.fields import param
from begat.evaluation.measures import JOINED
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.execution.methods import Method
from begat.stages.declaration import SCORES, Stage
from begat.storage.artifacts import Block

METHODS = {
    "joined": Method(
        "joined",
        "the scores of several methods, each divided by its standard deviation over the units of "
        "the query, then added",
        JOINED,
        headline=True,
    ),
    "joined_by_error": Method(
        "joined, by standard error",
        "the same with weights inverse to the variances that the standard errors state; only "
        "methods that have them",
        JOINED,
        "groups",
    ),
}
GROUND_TRUTH = "scores_logo"  # the stage whose scores must not become part of a prediction


@dataclass(frozen=True)
class ScoresJoined:
    """Sums of the scores of several methods."""

    methods: list[str] = param(
        "the methods joined, where they have scores; their choice must not follow from retraining"
    )


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job.

    Raises:
        BegatError: methods that cannot be joined.
    """
    listed = table.params.of(ScoresJoined).methods
    allowed = [m for m in table.methods if not m.startswith(("logo_", *METHODS))]
    expected = "at least two different names of scoring methods, no ground truth among them"
    if len(set(listed)) < max(2, len(listed)) or not set(listed) <= set(allowed):
        refuse(table.params, "scores_joined.methods", expected, listed)
    inputs = [("images", "all"), *table.scores(GROUND_TRUTH)]
    yield table.make("scores_joined", "all", inputs)


def cost(sizes: JobSizes) -> Cost:
    """Returns what adding scores takes."""
    parts = len(sizes.params.of(ScoresJoined).methods)
    numbers = float(parts * sizes.all_queries * sizes.images)
    arrays = "score group_score group_uncertainty"
    return sizes.cost("arrays", numbers, 24 * numbers, arrays, methods=METHODS)


def run(context: JobContext) -> None:
    """Score images and groups, where at least two of the methods do."""
    parts = _parts(context)
    enough = [level for level, methods in parts.items() if len(methods) > 1]
    names = {"images": "joined", "groups": "joined", "errors": "joined_by_error"}
    only = [names[level] for level in enough]
    context.materialise_scores(_scores, enabled=bool(enough), only=only, parts=parts)


def _parts(context: JobContext) -> dict[str, list[str]]:
    """The methods joined: of images, of groups, and of groups with standard errors."""
    levels: dict[str, list[str]] = {"images": [], "groups": [], "errors": []}
    for scores in context.scores():
        of_images = scores.attributes["methods"] if "score" in scores else []
        of_groups = scores.attributes["group_methods"] if "group_score" in scores else []
        levels["images"] += of_images
        levels["groups"] += [*of_images, *of_groups]
        levels["errors"] += of_groups
    if len(context.input("images").attributes["groups"]) < 2:
        levels["groups"] = levels["errors"] = []
    listed = context.params.of(ScoresJoined).methods
    return {level: [m for m in listed if m in methods] for level, methods in levels.items()}


def _scores(context: JobContext) -> Iterator[Block]:
    import numpy as np

    from begat.evaluation.group_scores import Row, group_rows
    from begat.evaluation.joined import error_weighted_sum, unit_variance_sum
    from begat.execution.results import additive_scores, group_parts

    member_of, parts = context.input("images")["member_of"], _parts(context)
    if len(parts["images"]) > 1:
        of_images = additive_scores(context)
        scores = np.stack([of_images[method] for method in parts["images"]])
        yield {"score": unit_variance_sum(scores, np.zeros(scores.shape))[0][None]}
    rows = dict[str, Row]()
    for part in group_parts(context):
        rows |= group_rows(*part, member_of)
    sums = [
        add(*(np.stack(side) for side in zip(*(rows[m] for m in parts[level]), strict=True)))
        for level, add in (("groups", unit_variance_sum), ("errors", error_weighted_sum))
        if len(parts[level]) > 1
    ]
    if sums:
        score, error = (np.stack(side) for side in zip(*sums, strict=True))
        yield {"group_score": score, "group_uncertainty": error}


STAGE = Stage(
    "scores_joined",
    "",
    f"images {SCORES} -{GROUND_TRUTH}",
    jobs,
    run,
    section=ScoresJoined,
    cost=cost,
    methods=METHODS,
    summary=(
        "several of these methods, each divided by its standard deviation over the units, added; "
        "other weights are tested on queries and subsets on which they were not fitted"
    ),
    price="nothing",
)
