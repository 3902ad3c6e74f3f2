"""Find how sharply the training loss bends around one model's weights."""

from collections.abc import Iterator

from begat.io.artifacts import Block
from begat.io.gradients import denoiser_of, training_sample
from begat.io.job import Run, main
from begat.io.networks import row_of
from begat.stages.factors import factors


def body(run: Run) -> None:
    layers: list[str] = []

    def compute(run: Run) -> Iterator[Block]:
        (model,) = run.job.models
        images = training_sample(run)
        found = factors(
            denoiser_of(run, row_of(run, model)),
            images.pixels,
            images.label,
            seed=run.seed,
            flip=run.params["models"]["flip"],
            **run.section("factors"),
        )
        layers.extend(found)
        for layer, arrays in found.items():
            yield {f"{layer}/{name}": values for name, values in arrays.items()}

    run.finish(compute, layers=layers, norms=run.params["factors"]["norms"])


main("factors", body)
