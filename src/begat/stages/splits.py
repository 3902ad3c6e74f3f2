"""Training sets of all models, by code, left-out group or random subset."""

from collections.abc import Iterator
from typing import Any

from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    yield table.make("splits", "all", [("images", "all")], rows=table.row_keys)


def cost(sizes: JobSizes) -> Cost:
    """Returns what the table of training sets takes."""
    splits, models = sizes.params.splits, len(sizes.job.made_from["rows"])
    cells = float(models * sizes.images)
    members = sizes.stored(["member_code"], {}, member=splits.members)
    groups = sizes.stored(["group_member_code"], {}, member=splits.group_members)
    codes = members[0] + groups[0] + 200 * models, members[1] + groups[1]
    return sizes.cost("arrays", cells, 10 * cells, "trains_on", more=codes, model=models)


def run(context: JobContext) -> None:
    """Encode the training sets of all models."""
    from begat.ensembles.training_sets import Ensemble, encode
    from begat.execution.contents import PARTS, part_digest

    digests: dict[str, str] = {}
    models = context.spec.models

    def encoded(context: JobContext) -> Iterator[Block]:
        images, splits = context.input("images"), context.params.splits
        arrays = encode(
            models,
            images["member_of"],
            images.attributes["groups"],
            images["cluster"],
            seed=context.seed,
            images=Ensemble(splits.members, splits.code),
            groups=Ensemble(splits.group_members, splits.group_code),
            subset_fraction=splits.subset_fraction,
        )
        rows = zip(models, arrays["trains_on"], strict=True)
        digests.update({m.name: part_digest({"trains_on": row}) for m, row in rows})
        yield arrays

    attributes: dict[str, Any] = {PARTS: digests}
    context.materialise(encoded, models=[model.attributes() for model in models], **attributes)


STAGE = Stage("splits", "seed splits", "images", jobs, run, cost=cost)
