"""Query images: generated from stored noise, or user-supplied."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from begat.config.consistency import refuse
from begat.config.schema import Params
from begat.diffusion.schedulers import SCHEDULERS
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block

if TYPE_CHECKING:
    from begat.data.datasets import Dataset


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields a job for each block of queries."""
    spec = table.spec
    supplied, kind = spec.query_dataset, table.params.queries.generated_by
    generators = () if supplied else spec.of_kind(kind)
    generators = generators[:1] if kind == "full" else generators
    for i, block in enumerate(spec.blocks):
        data: dict[str, Any] = {}
        if supplied:
            data = {"data": supplied.digest, "label": spec.query_labels[slice(*block)]}
        yield table.make("queries", str(i), [], generators, block, **data)


def cost(sizes: JobSizes) -> Cost:
    """Returns what sampling takes: an evaluation per step, query and model."""
    params, models = sizes.params.queries, max(sizes.models, 1)
    steps = 0 if sizes.own_queries else params.num_inference_steps
    step = params.num_inference_steps if params.scheduler == "ddpm" else 1
    memory = sizes.rows(2 * models) + sizes.forward(sizes.queries)
    memory += 8.0 * sizes.queries * sizes.pixels * (step + 2)
    arrays = "pixels noise label name group condition file_sha256"
    return sizes.cost(
        "prediction", steps * sizes.queries * models, memory, arrays, host=memory / 2, step=step
    )


def check(params: Params) -> None:
    """Raise BegatError for an unknown sampler."""
    if params.queries.scheduler not in SCHEDULERS:
        expected = f"one of {', '.join(SCHEDULERS)}"
        refuse(params, "queries.scheduler", expected, params.queries.scheduler)


def run(context: JobContext) -> None:
    """Generate a block of queries, or decode user-supplied ones."""
    supplied, generators = context.spec.query_dataset, [m.name for m in context.job.models]
    if supplied is None:
        context.materialise(_generated, generated_by=generators)
    else:
        context.materialise(lambda context: _decoded(context, supplied), generated_by="user")


def _generated(context: JobContext) -> Iterator[Block]:
    from tqdm import tqdm

    from begat.data.query_names import names_of_generated
    from begat.diffusion.query_images import generate
    from begat.execution.trained import predictor_of

    queries, params = range(*context.job.queries), context.params.queries
    predictor, classes = predictor_of(context), context.spec.dataset.classes
    total = predictor.models * len(queries) * params.num_inference_steps
    with tqdm(desc=context.job.name, total=total) as bar:
        predictor.progress = bar.update
        images = generate(
            predictor,
            queries,
            seed=context.seed,
            scheduler=params.scheduler,
            num_inference_steps=params.num_inference_steps,
            clip_sample=params.clip_sample,
        )
    yield {**images, **names_of_generated(queries, images["label"], classes)}


def _decoded(context: JobContext, supplied: "Dataset") -> Iterator[Block]:
    import numpy as np

    from begat.data.datasets import pixels
    from begat.data.query_names import names_of_supplied
    from begat.diffusion.query_images import user_supplied

    queries, params = range(*context.job.queries), context.params.queries
    block, label = supplied.only(queries), np.array(context.job.made_from["label"])
    images = user_supplied(
        np.stack(list(pixels(block, context.params.images))),
        label,
        queries,
        seed=context.seed,
        num_train_timesteps=context.params.diffusion.num_train_timesteps,
        scheduler=params.scheduler,
        num_inference_steps=params.num_inference_steps,
    )
    yield {**images, **names_of_supplied(block, label, context.spec.dataset.classes)}


STAGE = Stage(
    "queries",
    "seed diffusion queries images.size images.channels images.resize",
    "models",
    jobs,
    run,
    check=check,
    cost=cost,
    lower="queries.queries_per_job",
    data=True,
    each="block",
    gpu=True,
)
