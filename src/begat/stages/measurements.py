"""Losses of queries under models, on draws that all models share."""

from collections.abc import Iterator
from dataclasses import dataclass

from begat.config.consistency import check_draws
from begat.config.fields import MAX_COUNT, param
from begat.config.schema import Params
from begat.diffusion.bounds import BATCH
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block


@dataclass(frozen=True)
class Measurements:
    """How a model's loss on a query is measured."""

    draws: int = param("shared draws of (timestep, noise) per query; even", ge=4, le=MAX_COUNT)
    elbo_variance: str = param(
        "of the reverse process, for the ELBO's weights", choices=("posterior", "beta")
    )
    elbo_clipped: str = param(
        "for the ELBO: timesteps whose beta the schedule clips", choices=("exclude", "cap", "keep")
    )


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields a job for each kind of model and block of queries."""
    spec = table.spec
    for kind in spec.kinds:
        for i, block in enumerate(spec.blocks):
            models = spec.of_kind(kind)
            yield table.make("measurements", f"{kind}-{i}", [("queries", str(i))], models, block)
    unlearned = table.names("unlearned")
    for i, block in enumerate(spec.blocks if unlearned else []):
        inputs = [("queries", str(i)), *unlearned]
        yield table.make("measurements", f"unlearned-{i}", inputs, (), block)


def cost(sizes: JobSizes) -> Cost:
    """Returns what measuring takes: an evaluation per model, query and draw."""
    models, draws = sizes.models or sizes.groups, sizes.params.of(Measurements).draws
    gram = sizes.job.name.startswith(("member", "group_member"))
    errors = 4.0 * models * max(draws, BATCH) * sizes.pixels * (5 if gram else 2)
    host = sizes.rows(2 * models) + errors + 8.0 * models * sizes.queries * draws
    arrays = "loss timestep gram" if gram else "loss timestep"
    work, memory = models * sizes.queries * draws, host + sizes.forward()
    return sizes.cost("prediction", work, memory, arrays, host=host, model=models, draw=draws)


def check(params: Params) -> None:
    """Raise BegatError unless draws come in antithetic pairs."""
    check_draws(params, "measurements", params.of(Measurements).draws, 2, mirrored=False)


def run(context: JobContext) -> None:
    """Measure the loss of a block of queries under all models of one kind."""
    groups = [g for pack in context.inputs("unlearned") for g in pack.attributes["groups"]]
    models = [model.name for model in context.job.models] or groups
    context.materialise(_losses, models=models)


def _losses(context: JobContext) -> Iterator[Block]:
    from tqdm import tqdm

    from begat.diffusion.measurement import measure
    from begat.execution.trained import predictor_of

    (queries,), numbers = context.inputs("queries"), range(*context.job.queries)
    predictor, draws = predictor_of(context), context.params.of(Measurements).draws
    with tqdm(desc=context.job.name, total=predictor.models * len(numbers) * draws) as bar:
        predictor.progress = bar.update
        yield measure(
            predictor,
            queries["pixels"],
            queries["label"],
            numbers,
            seed=context.seed,
            draws=draws,
            gram=any(model.kind in ("member", "group_member") for model in context.job.models),
        )


STAGE = Stage(
    "measurements",
    "seed diffusion measurements.draws",
    "models queries unlearned",
    jobs,
    run,
    section=Measurements,
    check=check,
    cost=cost,
    lower="queries.queries_per_job",
    each="kind",
    gpu=True,
)
