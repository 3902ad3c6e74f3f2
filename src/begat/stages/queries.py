"""The query images: generated from stored noise, or user-supplied."""

from collections.abc import Iterator
from typing import Any

from begat.execution.context import JobContext
from begat.execution.costs import Cost, JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Job
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields a job for each block of queries."""
    spec = table.spec
    dataset, kind = spec.query_dataset, table.params.queries.generated_by
    generators = () if dataset else spec.of_kind(kind)
    generators = generators[:1] if kind == "full" else generators
    for i, block in enumerate(spec.blocks):
        data: dict[str, Any] = {}
        if dataset:
            data = {"data": dataset.digest, "label": spec.query_labels[slice(*block)]}
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


def run(context: JobContext) -> None:
    """Generate a block of queries, or decode user-supplied ones."""
    generators = [m.name for m in context.job.models] or "their owner"
    context.materialise(_images, drawn_by=generators)


def _images(context: JobContext) -> Iterator[Block]:
    import numpy as np
    from tqdm import tqdm

    from begat.data.datasets import pixels
    from begat.data.query_names import names_of_generated, names_of_own
    from begat.diffusion.query_images import draw, own
    from begat.execution.trained import predictor_of

    numbers, params = range(*context.job.queries), context.params.queries
    steps = params.num_inference_steps
    how: dict[str, Any] = {"seed": context.seed, "sampler": params.scheduler, "steps": steps}
    supplied, classes = context.spec.query_dataset, context.spec.dataset.classes
    if supplied is None:
        predictor = predictor_of(context)
        total = predictor.models * len(numbers) * steps
        with tqdm(desc=context.job.name, total=total) as bar:
            predictor.evaluated = bar.update
            images = draw(predictor, numbers, clip=params.clip_sample, **how)
        yield {**images, **names_of_generated(numbers, images["label"], classes)}
        return
    dataset, label = supplied.only(numbers), np.array(context.job.made_from["label"])
    supplied_pixels = np.stack(list(pixels(dataset, context.params.images)))
    timesteps = context.params.diffusion.num_train_timesteps
    yield {
        **own(supplied_pixels, label, numbers, timesteps=timesteps, **how),
        **names_of_own(dataset, label, classes),
    }


STAGE = Stage(
    "queries",
    "seed diffusion queries images.size images.channels images.resize",
    "models",
    jobs,
    run,
    cost=cost,
    lower="queries.queries_per_job",
    data=True,
    each="block",
    gpu=True,
)
