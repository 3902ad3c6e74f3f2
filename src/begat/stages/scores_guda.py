"""GUDA scores of groups: the rise of a query's loss where the group was unlearned."""

from collections.abc import Iterator

from begat.evaluation.measures import LOSS, NATS
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job, Name
from begat.execution.methods import Method
from begat.stages.declaration import Stage
from begat.stages.measurements import Measurements
from begat.storage.artifacts import Block

METHODS = {
    "guda_loss": Method(
        "unlearned",
        "loss of a model from which the group was unlearned minus loss of the full model",
        LOSS,
        headline=True,
    ),
    "guda_elbo": Method(
        "unlearned, ELBO",
        "the same in nats of the evidence lower bound, over all noise levels",
        NATS,
    ),
    "guda_loss_centred": Method(
        "unlearned, centred",
        "less each group's mean over queries: how strongly each was unlearned cancels",
        LOSS.centred,
    ),
    "guda_elbo_centred": Method("unlearned, ELBO, centred", "the same in nats", NATS.centred),
}


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    inputs: list[Name] = [("images", "all"), *table.names("queries")]
    inputs += table.names("measurements", "full", "unlearned")
    yield table.make("scores_guda", "all", inputs)


def cost(sizes: JobSizes) -> Cost:
    """Returns what comparing losses, and finding the images nearest to each query takes."""
    numbers = float(sizes.all_queries * sizes.images * len(METHODS))
    return sizes.cost(
        "arrays", numbers, 8 * numbers, "group_score group_uncertainty within", methods=METHODS
    )


def run(context: JobContext) -> None:
    """Score all groups."""
    from begat.diffusion.elbo import weight_profile
    from begat.execution.networks import elbo_weights_of

    section = context.params.of(Measurements)
    weights = elbo_weights_of(context.spec, section.elbo_variance, section.elbo_clipped)
    enabled = bool(context.inputs("measurements", "unlearned-"))
    profile = weight_profile(weights).tolist() if enabled else []
    context.materialise_scores(_scores, enabled=enabled, weight_profile=profile)


def _scores(context: JobContext) -> Iterator[Block]:
    import numpy as np

    from begat.execution.networks import elbo_weights_of, schedule_of
    from begat.execution.results import concatenated, losses
    from begat.unlearning.scores import gather, posterior_weights, score

    images, section = context.input("images"), context.params.of(Measurements)
    size = context.params.images
    packs: dict[tuple[str, ...], list[np.ndarray]] = {}
    for block in context.inputs("measurements", "unlearned-"):
        packs.setdefault(tuple(block.attributes["models"]), []).append(block["loss"])
    scores = score(
        losses(context, "full")[0, 0],
        gather(
            ((names, np.concatenate(blocks, 1)) for names, blocks in packs.items()),
            images.attributes["groups"],
        ),
        concatenated(context, "measurements", "timestep", "unlearned-"),
        elbo_weights_of(context.spec, section.elbo_variance, section.elbo_clipped),
        size.channels * size.size**2,
    )
    members = images["member_of"][scores["group_score"][0].argmax(1)]
    queries, schedule = concatenated(context, "queries", "pixels"), schedule_of(context.spec)
    seed, draws = context.seed, section.draws
    within = posterior_weights(queries, images["pixels"], members, schedule, seed=seed, draws=draws)
    yield {**scores, "within": within}


STAGE = Stage(
    "scores_guda",
    "seed images.size images.channels diffusion measurements",
    "images queries measurements",
    jobs,
    run,
    methods=METHODS,
    cost=cost,
    summary=(
        "unlearn each group from the full model, all groups side by side, and measure; twelve "
        "operators ([2601.22651](https://arxiv.org/abs/2601.22651))"
    ),
    price="a quarter of a training per group, or less",
)
