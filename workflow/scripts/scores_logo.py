"""Score groups by models retrained without them."""

from collections.abc import Iterator

from begat.io.artifacts import Block
from begat.io.job import Run, main
from begat.io.results import losses
from begat.stages.scores_logo import methods, score


def compute(run: Run) -> Iterator[Block]:
    without = losses(run, "logo")
    yield score(losses(run, "full")[0, : without.shape[1]], without)


def body(run: Run) -> None:
    names = methods(run.params["splits"]["logo"])
    there = bool(run.reads("measurements"))
    run.finish_scores(compute, dict.fromkeys(names, True), names[:1], there=there)


main("scores_logo", body)
