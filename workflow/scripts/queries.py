"""Draw a block of queries, or take in a person's own."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from tqdm import tqdm

from begat.io import datasets
from begat.io.artifacts import Block
from begat.io.job import Run, main
from begat.io.trained import predictor_of
from begat.stages.queries import draw, own


def compute(run: Run) -> Iterator[Block]:
    numbers, asked = range(*run.job.queries), run.params["queries"]
    how = {"seed": run.seed, "sampler": asked["sampler"], "steps": asked["steps"]}
    dataset = run.plan.query_dataset
    if dataset is None:
        predictor = predictor_of(run)
        with tqdm(desc=run.job.name, total=predictor.models * len(numbers) * asked["steps"]) as bar:
            predictor.evaluated = bar.update
            yield draw(predictor, numbers, clip=asked["clip"], **how)
        return
    decoded = datasets.pixels(dataset, run.params["images"])
    pixels = [image for _, image in islice(decoded, numbers.start, numbers.stop)]
    label = np.array(run.job.made_from["label"])
    timesteps = run.params["diffusion"]["timesteps"]
    yield own(np.stack(pixels), label, numbers, timesteps=timesteps, **how)


main(
    "queries",
    lambda run: run.finish(compute, drawn_by=[m.name for m in run.job.models] or "their owner"),
)
