"""Networks described by parameters, and trained models in the cache, each under its own key."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from begat.data.pipelines import pipeline_config
from begat.diffusion.elbo import elbo_weights
from begat.diffusion.packed_network import PackedNetwork
from begat.diffusion.schedules import SCHEDULES, Prediction, Schedule
from begat.diffusion.training_batches import TrainingImages
from begat.ensembles.model_specs import Model
from begat.execution.architecture import config_of
from begat.execution.contents import part_digest
from begat.execution.context import JobContext
from begat.execution.run_spec import RunSpec
from begat.storage.artifacts import Artifact, Block, write
from begat.storage.checkpoints import trained_together

ARRAYS = ("weights", "ema_weights", "training_loss")
FROM_PIPELINE = "pipeline"  # the attribute of an external pipeline: its configuration


def schedule_of(spec: RunSpec) -> Schedule:
    """Returns the forward process that the parameters describe."""
    diffusion = spec.params.diffusion
    return SCHEDULES[diffusion.beta_schedule](diffusion.num_train_timesteps)


def elbo_weights_of(spec: RunSpec, variance: str, clipped: str) -> Float[np.ndarray, " timestep"]:
    """Returns the weights of the ELBO, one per timestep."""
    return elbo_weights(schedule_of(spec), variance, clipped).numpy()  # type: ignore[arg-type]


def prediction_type_of(spec: RunSpec) -> Prediction:
    """Returns what the network outputs."""
    return spec.params.diffusion.prediction_type


def packed_network(context: JobContext) -> PackedNetwork:
    """Returns the network that all models share, except for their weights."""
    spec = context.spec
    return PackedNetwork(
        config_of(spec), schedule_of(spec), prediction_type_of(spec), context.device
    )


def training_images(context: JobContext) -> TrainingImages:
    """Returns all training images with their classes, mirrored where models are trained so."""
    pixels, random_flip = context.input("images")["pixels"], context.params.models.random_flip
    return TrainingImages(pixels, labels_of(context), random_flip)


def labels_of(context: JobContext) -> Int[np.ndarray, " image"] | None:
    """Returns the class of every training image, or None for unconditional models."""
    conditional = context.params.unet.class_conditional
    return context.input("images")["label"] if conditional else None


def untrained_models(context: JobContext) -> list[Model]:
    """Returns the models of this pack that no earlier run has trained from the present inputs.

    If a training that includes all of them was interrupted, all models of that training: other
    shapes would mean other bits.
    """
    by_key = {context.table.model_keys[model.name]: model for model in context.job.models}
    missing = {
        key
        for key, model in by_key.items()
        if not context.cache.has(key, context.contents.read_for((model,)))
    }
    for keys in trained_together(context.root) if missing else ():
        if missing <= set(keys) <= set(by_key):
            return [by_key[key] for key in keys]
    return [model for key, model in by_key.items() if key in missing]


def cache_models(
    context: JobContext, models: Sequence[Model], trained: Mapping[str, np.ndarray]
) -> None:
    """Write trained models to the cache, each under its own key."""
    for i, model in enumerate(models):
        key = context.table.model_keys[model.name]
        arrays = (*ARRAYS, "snapshots") if _has_snapshots(context, model) else ARRAYS
        attributes = {"key": key, "read": context.contents.read_for((model,))}
        rows = {array: trained[array][i : i + 1] for array in arrays}
        write(context.cache.path(key), "models", attributes, [rows])


def cached_models(context: JobContext, digests: dict[str, str]) -> Iterator[Block]:
    """Yields the models of this pack from the cache, one by one, and adds their ``digests``."""
    for model in context.job.models:
        artifact = Artifact(context.cache.path(context.table.model_keys[model.name]), "models")
        arrays = (*ARRAYS, "snapshots") if _has_snapshots(context, model) else ARRAYS
        rows = {array: artifact[array] for array in arrays}
        digests[model.name] = part_digest(rows)
        yield rows


def pack_attributes(context: JobContext) -> dict[str, Any]:
    """Returns the names of the models in a pack, and the network that they share."""
    if context.spec.pipeline:
        names = [model.name for model in context.job.models]
        config = pipeline_config(context.spec.pipeline)
        return {"models": names, "snapshots_of": [], FROM_PIPELINE: config}
    return {
        "models": [model.name for model in context.job.models],
        "snapshots_of": [
            model.name for model in context.job.models if _has_snapshots(context, model)
        ],
        "config": config_of(context.spec).attributes(),
    }


def _has_snapshots(context: JobContext, model: Model) -> bool:
    """Returns whether states along this model's training are stored: of full models only."""
    return model.kind == "full" and context.params.models.snapshots > 0
