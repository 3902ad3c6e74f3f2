"""Score images by the TRAK family."""

from collections.abc import Iterator

import numpy as np

from begat.io.artifacts import Block
from begat.io.gradients import draws_of, query_sample, training_sample
from begat.io.job import Run, main
from begat.io.trained import denoiser_of, row_of
from begat.stages.scores_trak import SIGNED, score


def compute(run: Run) -> Iterator[Block]:
    asked = run.params["scores_trak"]
    what = training_sample(run), query_sample(run), draws_of(run, asked["draws"])
    how = {"seed": run.seed, "projection": asked["projection"] or None}
    found = []
    for model in run.job.models:
        denoiser = denoiser_of(run, row_of(run, model))
        found.append(
            [score(denoiser, *what, method, [asked["damping"]], **how)[0] for method in SIGNED]
        )
    yield {"score": np.mean(found, 0)}


main(
    "scores_trak",
    lambda run: run.finish_scores(compute, SIGNED, ["trak", "dtrak"], there=bool(run.job.models)),
)
