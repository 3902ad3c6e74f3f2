"""Bring the scores of all methods to groups, in one table."""

from collections.abc import Iterator

import numpy as np

from begat.io.artifacts import Block
from begat.io.job import Run, main
from begat.io.results import additive_scores
from begat.stages.aggregated import Row, group_rows


def body(run: Run) -> None:
    methods: list[str] = []

    def compute(run: Run) -> Iterator[Block]:
        member_of, rows = run.read("images")["member_of"], dict[str, Row]()
        additive = additive_scores(run)
        for scores in run.scores():
            arrays = {n: scores[n] for n in ("group_score", "group_uncertainty") if n in scores}
            if "score" in scores:
                arrays["score"] = np.stack([additive[m] for m in scores.attributes["methods"]])
            of_images = scores.attributes["methods"]
            of_groups = scores.attributes["group_methods"]
            rows |= group_rows(of_images, of_groups, arrays, member_of)
        methods.extend(rows)
        score, uncertainty = (np.stack(side) for side in zip(*rows.values(), strict=True))
        yield {"score": score, "uncertainty": uncertainty}

    run.finish(compute, methods=methods)


main("aggregated", body)
