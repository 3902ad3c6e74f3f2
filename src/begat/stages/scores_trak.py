"""TRAK, D-TRAK and DAS scores of training images."""

from collections.abc import Iterator
from dataclasses import dataclass

from begat.config.consistency import check_draws, check_models
from begat.config.fields import MAX_COUNT, param
from begat.config.schema import Params
from begat.evaluation.measures import KERNEL_WEIGHT, UNSIGNED_KERNEL_WEIGHT, WEIGHTED_LOSS
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.execution.methods import Method
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block

METHODS = {
    "trak": Method(
        "TRAK",
        "weights of a regression on the gradients' own kernel: no loss",
        KERNEL_WEIGHT,
        headline=True,
    ),
    "dtrak": Method(
        "D-TRAK",
        "the same kernel of another function's gradients; only its ranks matter",
        UNSIGNED_KERNEL_WEIGHT,
        headline=True,
    ),
    "das": Method(
        "DAS",
        "squared kernel weights times the image's loss: magnitudes without a sign",
        WEIGHTED_LOSS,
    ),
}
PASSES = len(METHODS) + 1  # over the images: one for each method, one for the losses DAS divides by


@dataclass(frozen=True)
class ScoresTrak:
    """Scores of the TRAK family: trak, dtrak, das."""

    models: int = param(
        "models to average over: full ones first, then members; 0 = none", ge=0, le=10_000
    )
    draws: int = param("draws of (timestep, noise) per gradient; even", ge=2, le=MAX_COUNT)
    projection_dim: int = param(
        "dimensions of the projected gradients; 0 = all, the exact kernel", ge=0, le=10_000_000
    )
    damping: float = param("multiple of the kernel's mean eigenvalue", ge=0)


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    models = table.attributed_models(table.params.of(ScoresTrak).models)
    yield table.by_gradients("scores_trak", models, splits=models)


def cost(sizes: JobSizes) -> Cost:
    """Returns what the kernel takes: all images' gradients at once, and their products."""
    section, images, queries = sizes.params.of(ScoresTrak), sizes.images, sizes.all_queries
    features = section.projection_dim or sizes.network.parameters
    kernel = min(images, features)
    host = 4.0 * (images + queries) * features + 28.0 * kernel**2
    host += 8.0 * images * features if features < images else 0
    memory = host + sizes.gradients(section.draws, section.draws)
    work = sizes.models * len(METHODS) * (images + queries) * section.draws
    return sizes.cost("gradient", work, memory, "score", host=host, methods=METHODS)


def check(params: Params) -> None:
    """Raise BegatError where draws do not divide, or there are fewer models."""
    section = params.of(ScoresTrak)
    check_draws(params, "scores_trak", section.draws, 2, mirrored=True)
    check_models(params, "scores_trak.models", section.models)


def run(context: JobContext) -> None:
    """Score all images."""
    context.materialise_scores(_scores, enabled=bool(context.job.models))


def _scores(context: JobContext) -> Iterator[Block]:
    import numpy as np
    from tqdm import tqdm

    from begat.ensembles.exposure import mean_over_trained
    from begat.execution.gradient_inputs import draws_of, query_image_set, training_image_set
    from begat.execution.machine import memory
    from begat.execution.results import train_masks
    from begat.execution.trained import denoiser_of, row_of
    from begat.influence.gradient_source import gradient_source
    from begat.influence.trak import METHODS as ROWS
    from begat.influence.trak import require_memory, score

    params, models = context.params.of(ScoresTrak), context.job.models
    train_mask = train_masks(context, models)
    queries, draws = query_image_set(context), draws_of(context, params.draws)
    largest, first = int(train_mask.sum(1).max()), denoiser_of(context, row_of(context, models[0]))
    source = gradient_source(first, draws, norms=False)
    require_memory(source, largest, params.projection_dim, memory())
    scores = []
    with tqdm(desc=context.job.stage, total=PASSES * int(train_mask.sum())) as bar:
        for model, own in zip(models, train_mask, strict=True):
            denoiser = denoiser_of(context, row_of(context, model))
            source = gradient_source(denoiser, draws, norms=False)
            images = training_image_set(context, own, bar)
            rows = [
                score(
                    source,
                    images,
                    queries,
                    method,
                    [params.damping],
                    seed=context.seed,
                    projection_dim=params.projection_dim or None,
                    share=own.mean(),
                )[0]
                for method in ROWS
            ]
            scores.append(np.stack(rows))
    yield {"score": mean_over_trained(scores, train_mask)}


STAGE = Stage(
    "scores_trak",
    "seed unet.class_conditional images.size images.channels diffusion models.random_flip",
    "images splits models queries",
    jobs,
    run,
    section=ScoresTrak,
    check=check,
    cost=cost,
    lower="scores_trak.projection_dim",
    methods=METHODS,
    summary=(
        "TRAK, D-TRAK and DAS, by the exact kernel or a seeded projection "
        "([2303.14186](https://arxiv.org/abs/2303.14186), "
        "[2311.00500](https://arxiv.org/abs/2311.00500), "
        "[2410.18639](https://arxiv.org/abs/2410.18639))"
    ),
    price="a few passes",
    gpu=True,
)
