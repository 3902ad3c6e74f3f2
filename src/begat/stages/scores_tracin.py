"""TracIn scores of training images: gradient products along the training of full models."""

from collections.abc import Iterator
from dataclasses import dataclass

from begat.config.consistency import check_draws, refuse
from begat.config.fields import MAX_COUNT, param
from begat.config.schema import Params
from begat.evaluation.measures import NORMALISED_PRODUCT, STEP_PRODUCT
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.execution.methods import Method
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block

METHODS = {
    "tracin": Method(
        "TracIn",
        "products of gradients summed over states along the training: no loss",
        STEP_PRODUCT,
        headline=True,
    ),
    "retrac": Method(
        "Re-TracIn", "the same, each image's gradient scaled to length 1", NORMALISED_PRODUCT
    ),
}


@dataclass(frozen=True)
class ScoresTracin:
    """Scores along the training: tracin, retrac."""

    models: int = param("full models to average over; 0 = none", ge=0, le=1_000)
    draws: int = param("draws of (timestep, noise) per gradient; even", ge=2, le=MAX_COUNT)


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    models = table.attributed_models(table.params.of(ScoresTracin).models)
    yield table.by_gradients("scores_tracin", models)


def cost(sizes: JobSizes) -> Cost:
    """Returns what a pass over images and queries takes at every stored state."""
    draws, states = sizes.params.of(ScoresTracin).draws, sizes.params.models.snapshots
    memory = sizes.gradients(draws) + sizes.rows(2 * sizes.all_queries + states * sizes.models)
    memory += 24.0 * sizes.all_queries * sizes.images
    work = states * sizes.models * (sizes.images + sizes.all_queries) * draws
    return sizes.cost("gradient", work, memory, "score", methods=METHODS)


def check(params: Params) -> None:
    """Raise BegatError where there are no such models, or no states along their training."""
    section = params.of(ScoresTracin)
    check_draws(params, "scores_tracin", section.draws, 2, mirrored=True)
    if section.models and params.models.pipeline != "none":
        refuse(params, "scores_tracin.models", "0 beside models.pipeline", section.models)
    if section.models > params.splits.full:
        refuse(params, "scores_tracin.models", "at most splits.full", section.models)
    if section.models and not params.models.snapshots:
        refuse(params, "models.snapshots", "at least 1 for scores_tracin", 0)


def run(context: JobContext) -> None:
    """Score all images."""
    context.materialise_scores(_scores, enabled=bool(context.job.models))


def _scores(context: JobContext) -> Iterator[Block]:
    import numpy as np
    from tqdm import tqdm

    from begat.diffusion.training import learning_rate_at, snapshot_steps
    from begat.execution.gradient_inputs import draws_of, query_image_set, training_image_set
    from begat.execution.trained import denoiser_of
    from begat.influence.gradient_source import gradient_source
    from begat.influence.tracin import score

    training = context.params.models
    draws = draws_of(context, context.params.of(ScoresTracin).draws)
    schedule = training.learning_rate, training.warmup_steps, training.max_train_steps
    steps = snapshot_steps(training.max_train_steps, training.snapshots)
    rates = [learning_rate_at(step, *schedule) for step in steps]
    passes, scores = len(steps) * len(context.job.models), []
    with tqdm(desc=context.job.stage, total=passes * len(context.spec.dataset.names)) as bar:
        images, queries = training_image_set(context, None, bar), query_image_set(context)
        for model in context.job.models:
            pack = context.input("models", model.pack)
            place = pack.attributes["snapshots_of"].index(model.name)
            rows = pack.rows("snapshots", np.array([place]))[0]
            states = (gradient_source(denoiser_of(context, row), draws, norms=True) for row in rows)
            scores.append(score(states, rates, images, queries))
    yield {"score": np.mean(scores, 0)}


STAGE = Stage(
    "scores_tracin",
    "seed unet.class_conditional images.size images.channels diffusion models",
    "images models queries",
    jobs,
    run,
    section=ScoresTracin,
    check=check,
    cost=cost,
    lower="queries.count",
    methods=METHODS,
    summary=(
        "gradient products along the training: TracIn, Re-TracIn "
        "([2002.08484](https://arxiv.org/abs/2002.08484))"
    ),
    price="a pass per stored state",
    gpu=True,
)
