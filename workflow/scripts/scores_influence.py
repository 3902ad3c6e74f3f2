"""Score images by influence functions, and groups by their down-dated curvature."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from begat.io.artifacts import Block
from begat.io.gradients import denoiser_of, draws_of, query_sample, training_sample
from begat.io.job import Run, main
from begat.io.networks import row_of
from begat.stages.scores_influence import METHODS, best, score, variants


def body(run: Run) -> None:
    chosen: dict[str, Any] = {}

    def compute(run: Run) -> Iterator[Block]:
        asked = run.params["scores_influence"]
        wanted = variants(asked["damping"], asked["dampings"])
        found = []
        for model in run.job.models:
            factors = run.read("factors", model.name)
            scores = score(
                denoiser_of(run, row_of(run, model)),
                factors.layers(),
                training_sample(run),
                query_sample(run),
                draws_of(run, asked["draws"], asked["shared"]),
                wanted,
                norms=factors.attributes["norms"],
                centred=asked["centred"],
                storage=asked["storage"],
            )
            chosen[model.name], arrays = best(wanted, scores)
            found.append(arrays)
        yield {name: np.mean([f[name] for f in found], 0) for name in found[0]}

    run.finish_scores(
        compute,
        dict.fromkeys(METHODS, True),
        METHODS[:1],
        there=bool(run.job.models),
        chosen=chosen,
    )


main("scores_influence", body)
