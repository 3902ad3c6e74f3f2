"""Score groups by models retrained without them."""

from collections.abc import Iterator

from begat.io.artifacts import Block
from begat.io.job import Run, main
from begat.stages.scores_logo import METHODS, score


def compute(run: Run) -> Iterator[Block]:
    without = run.losses("logo")
    yield score(run.losses("full")[0, : without.shape[1]], without)


main(
    "scores_logo",
    lambda run: run.finish_scores(
        compute, dict.fromkeys(METHODS, True), METHODS[:1], there=bool(run.reads("measurements"))
    ),
)
