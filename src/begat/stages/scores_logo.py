"""Leave-one-group-out scores: retraining without each group, the ground truth for groups."""

from collections.abc import Iterator

from begat.evaluation.measures import LOSS, NATS
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.execution.methods import Method
from begat.stages.declaration import Stage
from begat.stages.measurements import Measurements
from begat.storage.artifacts import Block

METHODS = {
    "logo_retrained": Method(
        "retrained without",
        "the ground truth: models trained again without the group, minus full models",
        LOSS,
        headline=True,
    ),
    "logo_paired": Method(
        "retrained, paired",
        "trained without the group from the same initial weights, batches and noise as the full "
        "model",
        LOSS,
    ),
    "logo_independent": Method(
        "retrained, independent", "trained without the group from another seed", LOSS
    ),
    "logo_elbo_retrained": Method(
        "retrained without, ELBO", "the ground truth in nats, mean over trainings", NATS
    ),
    "logo_elbo_paired": Method("retrained, paired, ELBO", "the paired one in nats", NATS),
    "logo_elbo_independent": Method(
        "retrained, independent, ELBO", "the independent one in nats", NATS
    ),
}


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    kinds = ("full", "logo") if "logo" in table.spec.kinds else ()
    yield table.make("scores_logo", "all", table.names("measurements", *kinds) if kinds else [])


def cost(sizes: JobSizes) -> Cost:
    """Returns what comparing losses takes."""
    numbers = float(sizes.all_queries * sizes.groups * len(METHODS))
    return sizes.cost(
        "arrays", numbers, 8 * numbers, "group_score group_uncertainty", methods=METHODS
    )


def run(context: JobContext) -> None:
    """Score all groups."""
    from begat.unlearning.leave_one_out import methods

    context.materialise_scores(
        _scores,
        enabled=bool(context.inputs("measurements")),
        only=list(methods(context.params.splits.logo)),
    )


def _scores(context: JobContext) -> Iterator[Block]:
    from begat.execution.networks import elbo_weights_of
    from begat.execution.results import concatenated, losses
    from begat.unlearning.leave_one_out import score

    without, size = losses(context, "logo"), context.params.images
    section = context.params.of(Measurements)
    yield score(
        losses(context, "full")[0, : without.shape[1]],
        without,
        concatenated(context, "measurements", "timestep", "logo-"),
        elbo_weights_of(context.spec, section.elbo_variance, section.elbo_clipped),
        size.channels * size.size**2,
    )


STAGE = Stage(
    "scores_logo",
    "images.size images.channels diffusion measurements.elbo_variance measurements.elbo_clipped",
    "measurements",
    jobs,
    run,
    methods=METHODS,
    cost=cost,
    summary=(
        "leave one group out: retrain without each group, paired with the full model and "
        "independent of it; the ground truth for groups"
    ),
    price="one training per group and seed",
)
