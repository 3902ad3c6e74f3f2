"""Score images by influence functions, and groups by their down-dated curvature."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from begat.io.artifacts import Block
from begat.io.gradients import draws_of, query_sample, training_sample
from begat.io.job import Run, main
from begat.io.trained import denoiser_of, row_of
from begat.stages.scores_influence import (
    GROUP_METHODS,
    METHODS,
    best,
    group_score,
    score,
    variants,
)


def body(run: Run) -> None:
    chosen: dict[str, Any] = {}

    def compute(run: Run) -> Iterator[Block]:
        asked = run.params["scores_influence"]
        wanted = variants(asked["damping"], asked["dampings"])
        member_of = run.read("images")["member_of"]
        samples = training_sample(run), query_sample(run)
        draws = draws_of(run, asked["draws"], asked["shared"])
        found = []
        for model in run.job.models:
            factors = run.read("factors", model.name)
            denoiser = denoiser_of(run, row_of(run, model))
            what = (denoiser, factors.layers(), *samples, draws)
            how = {"norms": factors.attributes["norms"], "centred": asked["centred"]}
            best_of, arrays = best(wanted, score(*what, wanted, storage=asked["storage"], **how))
            chosen[model.name] = [variant.name for variant in best_of]
            damping = best_of[0].damping
            arrays |= group_score(*what, member_of, asked["damping"], damping, **how)
            found.append(arrays)
        yield {name: np.mean([f[name] for f in found], 0) for name in found[0]}

    run.finish_scores(
        compute,
        dict.fromkeys(METHODS, True),
        METHODS[:1],
        there=bool(run.job.models),
        group_methods=GROUP_METHODS,
        chosen=chosen,
    )


main("scores_influence", body)
