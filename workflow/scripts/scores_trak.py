"""Score images by the TRAK family."""

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from begat.ensembles.exposure import mean_over_trained
from begat.execution.context import Run, main
from begat.execution.gradient_inputs import draws_of, query_sample, training_sample
from begat.execution.machine import memory
from begat.execution.results import trains_on
from begat.execution.trained import denoiser_of, row_of
from begat.influence.trak import METHODS, require_memory, score
from begat.storage.artifacts import Block

PASSES = len(METHODS) + 1  # over the images: one for each method, one for the losses DAS divides by


def compute(run: Run) -> Iterator[Block]:
    asked, trained_on = run.params["scores_trak"], trains_on(run, run.job.models)
    queries, draws = query_sample(run), draws_of(run, asked["draws"])
    how = {"seed": run.seed, "projection": asked["projection"] or None}
    first = denoiser_of(run, row_of(run, run.job.models[0]))
    require_memory(first, int(trained_on.sum(1).max()), asked["projection"], memory())
    bar, found = tqdm(desc=run.job.stage, total=PASSES * int(trained_on.sum())), []
    for model, own in zip(run.job.models, trained_on, strict=True):
        what = denoiser_of(run, row_of(run, model)), training_sample(run, own, bar), queries, draws
        how["share"] = own.mean()
        found.append(
            np.stack([score(*what, method, [asked["damping"]], **how)[0] for method in METHODS])
        )
    bar.close()
    yield {"score": mean_over_trained(found, trained_on)}


main(
    "scores_trak",
    lambda run: run.finish_scores(compute, METHODS, ["trak", "dtrak"], there=bool(run.job.models)),
)
