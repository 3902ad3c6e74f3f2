"""Find how sharply the training loss bends around one model's weights."""

from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from begat.execution.context import Run, main
from begat.execution.factor_arrays import flat, shapes_of
from begat.execution.gradient_inputs import training_sample
from begat.execution.results import trains_on
from begat.execution.trained import denoiser_of, row_of
from begat.influence.factors import factors, left_out
from begat.storage.artifacts import Block

PASSES = 2  # over the images: covariances, eigenvalues


def body(run: Run) -> None:
    layers: list[dict[str, Any]] = []
    nothing: dict[str, Any] = {}
    norms = run.params["factors"]["norms"]

    def compute(run: Run) -> Iterator[Block]:
        (model,), (own,) = run.job.models, trains_on(run, run.job.models)
        denoiser = denoiser_of(run, row_of(run, model))
        bar = tqdm(desc=run.job.name, total=PASSES * int(own.sum()))
        found = factors(
            denoiser,
            training_sample(run, own, bar),
            run.read("images")["member_of"][:, own],
            seed=run.seed,
            flip=run.params["models"]["flip"],
            **run.section("factors"),
        )
        bar.close()
        layers.extend(shapes_of(found))
        nothing.update(left_out(denoiser, found, norms=norms))
        yield from flat(found)

    run.finish(compute, layers=layers, norms=norms, left_out=nothing)


main("factors", body)
