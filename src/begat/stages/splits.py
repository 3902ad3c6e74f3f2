"""The training set of every model, from its code, group or random subset."""

from collections.abc import Iterator
from typing import Any

from begat.execution.context import JobContext
from begat.execution.costs import Cost, JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Job
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
    """Encode the splits of the dataset."""
    from begat.ensembles.training_sets import encode
    from begat.execution.contents import PARTS, part_digest

    digests: dict[str, str] = {}
    models = context.spec.models

    def encoded(context: JobContext) -> Iterator[Block]:
        images, splits = context.input("images"), context.params.splits
        block = encode(
            models,
            images["member_of"],
            images.attributes["groups"],
            images["cluster"],
            seed=context.seed,
            members=splits.members,
            code=splits.code,
            group_members=splits.group_members,
            group_code=splits.group_code,
            fraction=splits.subset_fraction,
        )
        rows = zip(models, block["trains_on"], strict=True)
        digests.update({m.name: part_digest({"trains_on": row}) for m, row in rows})
        yield block

    attributes: dict[str, Any] = {PARTS: digests}
    context.materialise(encoded, models=[model.attributes() for model in models], **attributes)


STAGE = Stage("splits", "seed splits", "images", jobs, run, cost=cost)
