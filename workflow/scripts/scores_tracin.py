"""Score images along the training of full models."""

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from begat.diffusion.training import learning_rate_at, snapshot_steps
from begat.execution.context import Run, main
from begat.execution.gradient_inputs import draws_of, query_sample, training_sample
from begat.execution.trained import denoiser_of
from begat.influence.tracin import METHODS, score
from begat.storage.artifacts import Block


def compute(run: Run) -> Iterator[Block]:
    how, asked = run.params["models"], run.params["scores_tracin"]
    steps = snapshot_steps(how["steps"], how["snapshots"])
    rates = [learning_rate_at(s, how["learning_rate"], how["warmup"], how["steps"]) for s in steps]
    passes = len(steps) * len(run.job.models)
    bar = tqdm(desc=run.job.stage, total=passes * len(run.plan.dataset.names))
    what = training_sample(run, None, bar), query_sample(run), draws_of(run, asked["draws"])
    found = []
    for model in run.job.models:
        pack = run.read("models", model.pack)
        place = pack.attributes["snapshots_of"].index(model.name)
        rows = pack.rows("snapshots", np.array([place]))[0]
        found.append(score((denoiser_of(run, row) for row in rows), rates, *what))
    bar.close()
    yield {"score": np.mean(found, 0)}


main(
    "scores_tracin",
    lambda run: run.finish_scores(
        compute,
        METHODS,
        ["tracin"],
        there=bool(run.job.models),
    ),
)
