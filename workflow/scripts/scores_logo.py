"""Score groups by models retrained without them."""

from collections.abc import Iterator

from begat.execution.context import Run, main
from begat.execution.elbo_weights import elbo_weights_of
from begat.execution.results import joined, losses
from begat.storage.artifacts import Block
from begat.unlearning.leave_one_out import methods, score


def compute(run: Run) -> Iterator[Block]:
    without, image = losses(run, "logo"), run.params["images"]
    yield score(
        losses(run, "full")[0, : without.shape[1]],
        without,
        joined(run, "measurements", "timestep", "logo-"),
        elbo_weights_of(run.plan),
        image["channels"] * image["size"] ** 2,
    )


def body(run: Run) -> None:
    found = methods(run.params["splits"]["logo"])
    there = bool(run.reads("measurements"))
    run.finish_scores(compute, found, ["logo_retrained"], there=there)


main("scores_logo", body)
