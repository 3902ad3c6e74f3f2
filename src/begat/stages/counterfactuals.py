"""Counterfactual images: queries regenerated from the same noise without a training unit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from begat.config.consistency import lowest_timestep, refuse
from begat.config.fields import param
from begat.config.schema import Params
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job, Name
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block

if TYPE_CHECKING:
    import numpy as np


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


def cost(sizes: JobSizes) -> Cost:
    """Returns what regenerating takes: an evaluation per step and member of every image."""
    by_group, slots = sizes.job.name.startswith("group_member"), sizes.params.of(Counterfactuals)
    slot = 2 * sizes.groups if by_group else slots.top + slots.random
    pictures = sizes.queries * (1 + slot / 2 if by_group else 2 + slot)  # half of the members
    work = sizes.params.queries.num_inference_steps * sizes.models * pictures
    host = sizes.rows(2 * sizes.models) + 8.0 * sizes.queries * slot * sizes.pixels
    memory = host + sizes.forward(sizes.queries)
    arrays = "factual pixels unit distance"
    return sizes.cost("prediction", work, memory, arrays, host=host, slot=slot)


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
    by_image = context.job.models[0].kind == "member"
    slots = image_slots(params.top, params.random) if by_image else groups
    context.materialise(_regenerated, slots=slots)


def _regenerated(context: JobContext) -> Iterator[Block]:
    from functools import partial

    from tqdm import tqdm

    from begat.ensembles.codes import code_blocks
    from begat.ensembles.counterfactuals import (
        factual_images,
        regenerate,
        without_groups,
        without_images,
    )
    from begat.ensembles.exposure import group_exposure
    from begat.execution.results import train_masks
    from begat.execution.trained import predictor_of

    images, (queries,) = context.input("images"), context.inputs("queries")
    train_mask, sampling = train_masks(context, context.job.models), context.params.queries
    generated = context.spec.query_dataset is None
    subset_images = partial(
        regenerate,
        predictor_of(context),
        queries={name: queries[name] for name in ("pixels", "noise", "label")},
        strength=None if generated else context.params.of(Counterfactuals).strength,
        scheduler=sampling.scheduler,
        num_inference_steps=sampling.num_inference_steps,
        clip_sample=sampling.clip_sample,
        progress=partial(tqdm, desc=context.job.name, unit=" images"),
    )
    names = [model.name for model in context.job.models]
    factual = factual_images(
        subset_images, queries["pixels"], queries.attributes["generated_by"], names
    )
    if context.job.models[0].kind == "group_member":
        exposure = group_exposure(images["member_of"], train_mask)
        blocks = code_blocks(context.params.splits.group_code, *exposure.shape)
        yield without_groups(subset_images, factual, exposure, blocks, seed=context.seed)
    else:
        unit = _removed(context, train_mask.T, factual)
        yield without_images(subset_images, factual, train_mask.T, unit)


def _removed(context: JobContext, exposure: "np.ndarray", factual: "np.ndarray") -> "np.ndarray":
    """Returns the images to remove from each query, as ``[query, slot]``."""
    import numpy as np

    from begat.diffusion.pixels import to_model_range
    from begat.ensembles.ablation import size_matched
    from begat.ensembles.counterfactuals import removed_images

    images, (measurements,) = context.input("images"), context.inputs("measurements")
    params = context.params.of(Counterfactuals)
    return removed_images(
        size_matched(measurements["gram"], exposure),
        factual,
        images["cluster"],
        to_model_range(images["pixels"].astype(np.float64)),
        range(*context.job.queries),
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
    cost=cost,
    lower="queries.queries_per_job",
    each="kind",
    gpu=True,
)
