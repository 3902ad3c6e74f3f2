"""Score images by how near they are to the query, as pixels."""

from collections.abc import Iterator

from begat.evaluation.pixel_similarity import METHODS, similarity
from begat.execution.context import Run, main
from begat.execution.results import joined
from begat.storage.artifacts import Block


def compute(run: Run) -> Iterator[Block]:
    images, queries = run.read("images"), joined(run, "queries", "pixels")
    yield {"score": similarity(queries, images["pixels"] / 127.5 - 1, images["copy_of"])}


main(
    "scores_pixel",
    lambda run: run.finish_scores(compute, METHODS, ["pixel_rbf"]),
)
