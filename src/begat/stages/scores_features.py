"""Similarity of training images to queries in a network's feature space."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from begat.config.consistency import check_draws, refuse
from begat.config.fields import MAX_COUNT, param
from begat.config.schema import Params
from begat.data.listings import resolve_under_data
from begat.evaluation.measures import COSINE
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.execution.methods import Method
from begat.stages.declaration import Stage
from begat.storage.artifacts import Block
from begat.storage.digests import file_digest

NETWORKS = r"full|timm:[\w.-]+(:.+\.safetensors)?"  # no other hub, whose files may run code
METHODS = {
    "features_cosine": Method(
        "same features",
        "how similar the images are in the feature space of a network; not a loss, and without "
        "its sign",
        COSINE,
        headline=True,
    )
}


@dataclass(frozen=True)
class ScoresFeatures:
    """Similarity in the feature space of a network."""

    network: str = param(
        "full: the full model's own middle layer; timm:NAME; timm:NAME:data/FILE.safetensors"
    )
    draws: int = param("for full: draws of (timestep, noise) per image; even", ge=2, le=MAX_COUNT)


def _weights_file(params: Params, root: Path) -> Path | None:
    """The weights of the vision network, if a file is given."""
    _, _, name = params.of(ScoresFeatures).network.partition(":")
    file = name.partition(":")[2]
    return resolve_under_data(file, root) if file else None


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    full = table.params.of(ScoresFeatures).network == "full"
    file = _weights_file(table.params, table.root)
    more: dict[str, Any] = {"network": file_digest(file)} if file else {}
    models = table.spec.of_kind("full")[: int(full)]
    yield table.by_gradients("scores_features", models, **more)


def cost(sizes: JobSizes) -> Cost:
    """Returns what a pass over images and queries takes, by the run's network at least."""
    draws, images = sizes.params.of(ScoresFeatures).draws, sizes.images + sizes.all_queries
    memory = sizes.forward(sizes.examples(draws)) + 8.0 * sizes.all_queries * sizes.images
    return sizes.cost("prediction", images * draws, memory, "score", methods=METHODS)


def check(params: Params) -> None:
    """Raise BegatError for an unknown kind of network, or draws that do not divide."""
    section = params.of(ScoresFeatures)
    check_draws(params, "scores_features", section.draws, 2, mirrored=False)
    if not re.fullmatch(NETWORKS, section.network):
        expected = "full, timm:NAME or timm:NAME:PATH.safetensors"
        refuse(params, "scores_features.network", expected, section.network)


def run(context: JobContext) -> None:
    """Score all images."""
    external = context.params.of(ScoresFeatures).network != "full"
    context.materialise_scores(_scores, enabled=bool(context.job.models) or external)


def _scores(context: JobContext) -> Iterator[Block]:
    from tqdm import tqdm

    from begat.data.vision import named_network
    from begat.execution.gradient_inputs import draws_of, query_image_set, training_image_set
    from begat.execution.trained import denoiser_of, row_of
    from begat.influence.features import denoiser_features, similarity, vision_features

    params = context.params.of(ScoresFeatures)
    with tqdm(desc=context.job.stage, total=len(context.spec.dataset.names)) as bar:
        image_sets = query_image_set(context), training_image_set(context, None, bar)
        if params.network == "full":
            denoiser = denoiser_of(context, row_of(context, context.job.models[0]))
            draws = draws_of(context, params.draws, mirrored=False)
            features = [denoiser_features(denoiser, images, draws) for images in image_sets]
        else:
            name, file = params.network.split(":")[1], _weights_file(context.params, context.root)
            network = named_network(name, file, context.device)
            features = [vision_features(network, images, context.device) for images in image_sets]
    yield {"score": similarity(*features)}


STAGE = Stage(
    "scores_features",
    "seed unet.class_conditional images.size images.channels diffusion",
    "images models queries",
    jobs,
    run,
    section=ScoresFeatures,
    check=check,
    cost=cost,
    methods=METHODS,
    summary=("similarity in the feature space of the model itself, or of any network"),
    price="a pass",
    data=True,
    gpu=True,
)
