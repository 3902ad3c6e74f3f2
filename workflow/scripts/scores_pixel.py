"""Score images by how near they are to the query, as pixels."""

from collections.abc import Iterator

from begat.io.artifacts import Block
from begat.io.job import Run, main
from begat.io.results import joined
from begat.stages.scores_pixel import METHODS, similarity


def compute(run: Run) -> Iterator[Block]:
    images, queries = run.read("images"), joined(run, "queries", "pixels")
    yield {"score": similarity(queries, images["pixels"] / 127.5 - 1, images["copy_of"])}


main(
    "scores_pixel",
    lambda run: run.finish_scores(compute, METHODS, ["pixel_rbf"]),
)
