"""Group scores of all methods in one table, image scores summed over each group."""

from collections.abc import Iterator

from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.stages.declaration import SCORES, Stage
from begat.storage.artifacts import Block


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    yield table.make("aggregated", "all", [("images", "all"), *table.scores()])


def cost(sizes: JobSizes) -> Cost:
    """Returns what summing all scores takes."""
    queries, methods = sizes.all_queries, sizes.all_methods
    scores = float(methods * queries * sizes.images)
    return sizes.cost("arrays", scores, 8 * scores, "score uncertainty", method=methods)


def run(context: JobContext) -> None:
    """Sum image scores over groups, and join them with group scores."""
    methods: list[str] = []
    context.materialise(lambda context: _rows(context, methods), methods=methods)


def _rows(context: JobContext, methods: list[str]) -> Iterator[Block]:
    import numpy as np

    from begat.evaluation.group_scores import Row, group_rows
    from begat.execution.results import group_parts

    member_of, rows = context.input("images")["member_of"], dict[str, Row]()
    for part in group_parts(context):
        rows |= group_rows(*part, member_of)
    methods.extend(rows)
    score, uncertainty = (np.stack(side) for side in zip(*rows.values(), strict=True))
    yield {"score": score, "uncertainty": uncertainty}


STAGE = Stage("aggregated", "", f"images {SCORES}", jobs, run, cost=cost)
