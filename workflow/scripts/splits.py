"""Decide which model trains on which image."""

from collections.abc import Iterator

from begat.ensembles.training_sets import encode
from begat.execution.contents import PARTS, part_digest
from begat.execution.context import Run, main
from begat.storage.artifacts import Block


def compute(run: Run, digests: dict[str, str]) -> Iterator[Block]:
    images, asked = run.read("images"), run.params["splits"]
    block = encode(
        run.plan.models,
        images["member_of"],
        images.attributes["groups"],
        images["cluster"],
        seed=run.seed,
        **{k: asked[k] for k in ("members", "code", "group_members", "group_code", "kept")},
    )

    rows = zip(run.plan.models, block["trains_on"], strict=True)
    digests |= {model.name: part_digest({"trains_on": row}) for model, row in rows}
    yield block


def body(run: Run) -> None:
    digests: dict[str, str] = {}
    models = [model.attributes() for model in run.plan.models]
    run.finish(lambda run: compute(run, digests), models=models, **{PARTS: digests})


main("splits", body)
