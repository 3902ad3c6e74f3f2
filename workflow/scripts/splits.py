"""Decide which model trains on which image."""

from collections.abc import Iterator

from begat.io.artifacts import Block
from begat.io.job import Run, main
from begat.stages.splits import encode


def compute(run: Run) -> Iterator[Block]:
    images, asked = run.read("images"), run.params["splits"]
    yield encode(
        run.plan.models,
        images["member_of"],
        images.attributes["groups"],
        images["cluster"],
        seed=run.seed,
        **{k: asked[k] for k in ("members", "code", "group_members", "group_code", "kept")},
    )


main("splits", lambda run: run.finish(compute, models=[m.attributes() for m in run.plan.models]))
