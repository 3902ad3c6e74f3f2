"""Score images by how near they are to the query in the eyes of a network."""

from collections.abc import Iterator

from tqdm import tqdm

from begat.data.vision import named_network
from begat.execution.context import Run, main
from begat.execution.gradient_inputs import draws_of, query_sample, training_sample
from begat.execution.trained import denoiser_of, row_of
from begat.influence.features import METHODS, foreign_features, own_features, similarity
from begat.storage.artifacts import Block


def named(run: Run) -> bool:
    return run.params["scores_features"]["network"] != "full"


def compute(run: Run) -> Iterator[Block]:
    asked = run.params["scores_features"]
    bar = tqdm(desc=run.job.stage, total=len(run.plan.dataset.names))
    samples = query_sample(run), training_sample(run, None, bar)
    if asked["network"] == "full":
        denoiser = denoiser_of(run, row_of(run, run.job.models[0]))
        draws = draws_of(run, asked["draws"], mirrored=False)
        features = [own_features(denoiser, sample, draws) for sample in samples]
    else:
        name = asked["network"].split(":")[1]
        network = named_network(name, run.plan.vision_file, run.device)
        features = [foreign_features(network, sample, run.device) for sample in samples]
    bar.close()
    yield {"score": similarity(*features)}


main(
    "scores_features",
    lambda run: run.finish_scores(
        compute, METHODS, list(METHODS), there=bool(run.job.models) or named(run)
    ),
)
