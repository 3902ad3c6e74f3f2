"""Pixel similarity of training images to queries: the baseline that needs no model."""

from collections.abc import Iterator

from begat.evaluation.measures import COSINE, NEGATIVE_DISTANCE, SIMILARITY
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.execution.methods import Method
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block

METHODS = {
    "pixel_rbf": Method(
        "pixel kernel",
        "how similar the images are as pixels; uses no model, so a method that does not beat it "
        "shows little",
        SIMILARITY,
        headline=True,
    ),
    "pixel_cosine": Method("pixel cosine", "the angle between the images as pixels", COSINE),
    "pixel_nearest": Method(
        "pixel distance", "minus the distance between the images as pixels", NEGATIVE_DISTANCE
    ),
}


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    yield table.by_gradients("scores_pixel", ())


def cost(sizes: JobSizes) -> Cost:
    """Returns what comparing every query with every image takes."""
    numbers = float(sizes.all_queries * sizes.images * len(METHODS))
    return sizes.cost("arrays", numbers, 12 * numbers, "score", methods=METHODS)


def run(context: JobContext) -> None:
    """Score all images."""
    context.materialise_scores(_scores)


def _scores(context: JobContext) -> Iterator[Block]:
    import numpy as np

    from begat.diffusion.pixels import to_model_range
    from begat.evaluation.pixel_similarity import similarity
    from begat.execution.results import concatenated

    images, queries = context.input("images"), concatenated(context, "queries", "pixels")
    pixels = to_model_range(images["pixels"].astype(np.float64))  # in float32 distances lose 5e-4
    yield {"score": similarity(queries, pixels, images["copy_of"])}


STAGE = Stage(
    "scores_pixel",
    "",
    "images queries",
    jobs,
    run,
    methods=METHODS,
    cost=cost,
    summary=("similarity of pixels: no model at all, the baseline that every method must beat"),
    price="nothing",
)
