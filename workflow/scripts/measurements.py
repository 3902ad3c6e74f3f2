"""Measure the loss of a block of queries under all models of one kind."""

from collections.abc import Iterator

from tqdm import tqdm

from begat.diffusion.measurement import measure
from begat.execution.context import Run, main
from begat.execution.trained import predictor_of
from begat.storage.artifacts import Block


def compute(run: Run) -> Iterator[Block]:
    (queries,), numbers = run.reads("queries"), range(*run.job.queries)
    predictor, draws = predictor_of(run), run.params["measurements"]["draws"]
    with tqdm(desc=run.job.name, total=predictor.models * len(numbers) * draws) as bar:
        predictor.evaluated = bar.update
        yield measure(
            predictor,
            queries["pixels"],
            queries["label"],
            numbers,
            seed=run.seed,
            draws=draws,
            gram=any(model.kind in ("member", "group_member") for model in run.job.models),
        )


def body(run: Run) -> None:
    forgotten = [group for pack in run.reads("unlearned") for group in pack.attributes["groups"]]
    models = [m.name for m in run.job.models] or forgotten
    run.finish(compute, models=models)


main("measurements", body)
