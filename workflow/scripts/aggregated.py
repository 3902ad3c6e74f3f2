"""Bring the scores of all methods to groups, in one table."""

from collections.abc import Iterator

import numpy as np

from begat.io.artifacts import Block
from begat.io.job import Run, main
from begat.io.results import group_parts
from begat.stages.aggregated import Row, group_rows


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
