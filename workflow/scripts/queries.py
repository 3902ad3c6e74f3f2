"""Draw a block of queries, or take in a person's own."""

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from begat.data import datasets
from begat.data.query_names import names_of_generated, names_of_own
from begat.diffusion.query_images import draw, own
from begat.execution.context import Run, main
from begat.execution.trained import predictor_of
from begat.storage.artifacts import Block


def compute(run: Run) -> Iterator[Block]:
    numbers, asked = range(*run.job.queries), run.params["queries"]
    how = {"seed": run.seed, "sampler": asked["sampler"], "steps": asked["steps"]}
    own_queries, classes = run.plan.query_dataset, run.plan.dataset.classes
    if own_queries is None:
        predictor = predictor_of(run)
        with tqdm(desc=run.job.name, total=predictor.models * len(numbers) * asked["steps"]) as bar:
            predictor.evaluated = bar.update
            drawn = draw(predictor, numbers, clip=asked["clip"], **how)
        yield {**drawn, **names_of_generated(numbers, drawn["label"], classes)}
        return
    dataset, label = own_queries.only(numbers), np.array(run.job.made_from["label"])
    pixels = np.stack(list(datasets.pixels(dataset, run.params["images"])))
    timesteps = run.params["diffusion"]["timesteps"]
    yield {
        **own(pixels, label, numbers, timesteps=timesteps, **how),
        **names_of_own(dataset, label, classes),
    }


main(
    "queries",
    lambda run: run.finish(compute, drawn_by=[m.name for m in run.job.models] or "their owner"),
)
