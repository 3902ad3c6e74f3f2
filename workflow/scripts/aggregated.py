"""Bring the scores of all methods to groups, in one table."""

from collections.abc import Iterator

import numpy as np

from begat.evaluation.group_scores import Row, group_rows
from begat.execution.context import Run, main
from begat.execution.results import group_parts
from begat.storage.artifacts import Block


def body(run: Run) -> None:
    methods: list[str] = []

    def compute(run: Run) -> Iterator[Block]:
        member_of, rows = run.read("images")["member_of"], dict[str, Row]()
        for part in group_parts(run):
            rows |= group_rows(*part, member_of)
        methods.extend(rows)
        score, uncertainty = (np.stack(side) for side in zip(*rows.values(), strict=True))
        yield {"score": score, "uncertainty": uncertainty}

    run.finish(compute, methods=methods)


main("aggregated", body)
