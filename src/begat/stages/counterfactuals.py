"""Queries regenerated from the same noise by ensemble members that never saw a unit."""

from collections.abc import Iterator
from dataclasses import dataclass

from begat.config.consistency import lowest_timestep, refuse
from begat.config.fields import param
from begat.config.schema import Params
from begat.execution.context import JobContext
from begat.execution.job_table import JobTable
from begat.execution.jobs import Job, Name
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block


@dataclass(frozen=True)
class Counterfactuals:
    """Queries regenerated from the same noise without a unit."""

    top: int = param("most helpful images of each query to remove", ge=0, le=10_000)
    random: int = param("random images of each query to remove", ge=1, le=10_000)
    strength: float = param("how far a user-supplied query is noised first", gt=0, le=1)


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields a job for each ensemble and block of queries."""
    for kind in ("member", "group_member"):
        for i, block in enumerate(table.spec.blocks if kind in table.spec.kinds else []):
            name, models = f"{kind}-{i}", table.spec.of_kind(kind)
            inputs: list[Name] = [("images", "all"), ("queries", str(i)), ("measurements", name)]
            yield table.make("counterfactuals", name, inputs, models, block, models)


def evaluations(table: JobTable, job: Job) -> float:
    """Returns forward passes: one per step and member of every regenerated query."""
    steps = table.params.queries.num_inference_steps
    sampling = steps * (job.queries[1] - job.queries[0]) * len(job.models)
    if job.name.startswith("group_member"):  # half of the members each, and null codes
        return float(sampling * (1 + len(table.spec.dataset.groups)))
    slots = table.params.of(Counterfactuals)
    return float(sampling * (2 + slots.top + slots.random))


def check(params: Params) -> None:
    """Raise BegatError where user-supplied queries would not be noised at all."""
    steps, timesteps = params.queries.num_inference_steps, params.diffusion.num_train_timesteps
    strength, last = params.of(Counterfactuals).strength, lowest_timestep(timesteps, steps)
    if params.queries.source == "folder" and strength * timesteps <= last:
        lowest = f"the lowest of queries.num_inference_steps={steps} timesteps"
        expected = f"more than {last / timesteps:.4g}, {lowest}"
        refuse(params, "counterfactuals.strength", expected, strength)


def run(context: JobContext) -> None:
    """Regenerate a block of queries."""
    from begat.ensembles.counterfactuals import image_slots

    params, groups = context.params.of(Counterfactuals), list(context.spec.dataset.groups)
    of_images = context.job.models[0].kind == "member"
    slots = image_slots(params.top, params.random) if of_images else groups
    context.materialise(_regenerated, slots=slots)


def _regenerated(context: JobContext) -> Iterator[Block]:
    from functools import partial

    import numpy as np
    from tqdm import tqdm

    from begat.diffusion.pixels import to_model_range
    from begat.ensembles.codes import code_blocks
    from begat.ensembles.counterfactuals import (
        drawn_by_all,
        redraw,
        without_groups,
        without_images,
    )
    from begat.ensembles.exposure import groups_seen
    from begat.execution.results import trains_on
    from begat.execution.trained import predictor_of

    images, numbers = context.input("images"), range(*context.job.queries)
    (queries,), (measured,) = context.inputs("queries"), context.inputs("measurements")
    train_mask = trains_on(context, context.job.models)
    params, sampling = context.params.of(Counterfactuals), context.params.queries
    draw = partial(
        redraw,
        predictor_of(context),
        queries={name: queries[name] for name in ("pixels", "noise", "label")},
        drawn=context.spec.query_dataset is None,
        strength=params.strength,
        watch=partial(tqdm, desc=context.job.name, unit=" pictures"),
        scheduler=sampling.scheduler,
        num_inference_steps=sampling.num_inference_steps,
        clip_sample=sampling.clip_sample,
    )
    names = [model.name for model in context.job.models]
    by_all = drawn_by_all(draw, queries["pixels"], queries.attributes["generated_by"], names)
    if context.job.models[0].kind == "group_member":
        exposure = groups_seen(images["member_of"], train_mask)
        blocks = code_blocks(context.params.splits.group_code, *exposure.shape)
        yield without_groups(draw, by_all, exposure, blocks, seed=context.seed)
        return
    yield without_images(
        draw,
        by_all,
        measured["gram"],
        train_mask.T,
        images["cluster"],
        to_model_range(images["pixels"].astype(np.float64)),
        numbers,
        seed=context.seed,
        top=params.top,
        random=params.random,
    )


STAGE = Stage(
    "counterfactuals",
    "seed splits.code splits.group_code diffusion queries.source queries.scheduler "
    "queries.num_inference_steps queries.clip_sample counterfactuals",
    "images splits models queries measurements",
    jobs,
    run,
    section=Counterfactuals,
    check=check,
    evaluations=evaluations,
    each="kind",
    gpu=True,
)
