"""Draw a block of queries, or take in a person's own."""

from collections.abc import Iterator

import numpy as np

from begat.io import datasets
from begat.io.artifacts import Block, digest_bytes, padded_text
from begat.io.job import Run, main
from begat.io.trained import predictor_of
from begat.stages.queries import draw, own


def compute(run: Run) -> Iterator[Block]:
    numbers, asked = range(*run.job.queries), run.params["queries"]
    how = {"seed": run.seed, "sampler": asked["sampler"], "steps": asked["steps"]}
    whole, classes = run.plan.query_dataset, run.plan.dataset.classes
    if whole is None:
        drawn = draw(predictor_of(run), numbers, clip=asked["clip"], **how)
        yield {
            **drawn,
            "name": padded_text([f"generated-{query:04d}" for query in numbers]),
            "group": padded_text([""] * len(numbers)),
            "condition": padded_text(["" if k < 0 else classes[k] for k in drawn["label"]]),
            "file_sha256": np.zeros((len(numbers), 32), np.uint8),
        }
        return
    dataset = whole.only(numbers)
    pixels = np.stack(list(datasets.pixels(dataset, run.params["images"])))
    label = np.array(run.job.made_from["label"])
    timesteps = run.params["diffusion"]["timesteps"]
    yield {
        **own(pixels, label, numbers, timesteps=timesteps, **how),
        "name": padded_text(dataset.names),
        "group": padded_text(["; ".join(of) for of in dataset.group_names]),
        "condition": padded_text(["" if k < 0 else classes[k] for k in label]),
        "file_sha256": digest_bytes(dataset.digests),
    }


main(
    "queries",
    lambda run: run.finish(compute, drawn_by=[m.name for m in run.job.models] or "their owner"),
)
