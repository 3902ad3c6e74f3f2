"""Networks from parameters, and packs of them in the store, each model under its own key."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from begat.data.pipelines import pipeline_config
from begat.diffusion.schedules import SCHEDULES, Schedule
from begat.diffusion.unet import UNetConfig
from begat.ensembles.model_specs import Model
from begat.errors import BegatError
from begat.execution.contents import part_digest
from begat.execution.context import Run
from begat.planning.plan import Plan
from begat.storage.artifacts import Artifact, Block, write
from begat.storage.checkpoints import trained_together

ARRAYS = ("weights", "ema_weights", "training_loss")
FROM_PIPELINE = "pipeline"  # the attribute of models that somebody brought


def config_of(plan: Plan) -> UNetConfig:
    """The network that the parameters describe.

    Raises:
        BegatError: no such network exists; the message names the key.
    """
    unet, images = plan.params["unet"], plan.params["images"]
    try:
        return UNetConfig(
            sample_size=images["size"],
            image_channels=images["channels"],
            block_out_channels=tuple(unet["block_out_channels"]),
            layers_per_block=unet["layers_per_block"],
            attention=tuple(unet["attention"]),
            mid_attention=unet["mid_attention"],
            attention_head_dim=unet["attention_head_dim"],
            norm_num_groups=unet["norm_num_groups"],
            classes=len(plan.dataset.classes) if unet["conditional"] else 0,
        )
    except BegatError as error:
        raise BegatError(f"{plan.params['use']}: unet.{error}") from None


def schedule_of(plan: Plan) -> Schedule:
    """The forward process that the parameters describe."""
    diffusion = plan.params["diffusion"]
    return SCHEDULES[diffusion["schedule"]](diffusion["timesteps"])


def labels_of(run: Run) -> Int[np.ndarray, " image"] | None:
    """The class of every training image, or None for unconditional models."""
    conditional = run.params["unet"]["conditional"]
    return run.read("images")["label"] if conditional else None


def to_train(run: Run) -> list[Model]:
    """The models of this pack that no earlier run has trained from what lies here now.

    Where a training of some of them was cut short, those: other shapes would mean other bits.
    """
    by_key = {run.plan.model_keys[model.name]: model for model in run.job.models}
    missing = {
        key
        for key, model in by_key.items()
        if not run.store.has(key, run.contents.read_for((model,)))
    }
    for keys in trained_together(run.root) if missing else ():
        if missing <= set(keys) <= set(by_key):
            return [by_key[key] for key in keys]
    return [model for key, model in by_key.items() if key in missing]


def keep(run: Run, models: Sequence[Model], trained: Mapping[str, np.ndarray]) -> None:
    """Take trained models into the store, each under its own key."""
    for i, model in enumerate(models):
        key = run.plan.model_keys[model.name]
        arrays = (*ARRAYS, "snapshots") if _followed(run, model) else ARRAYS
        attributes = {"key": key, "read": run.contents.read_for((model,))}
        rows = {array: trained[array][i : i + 1] for array in arrays}
        write(run.store.path(key), "models", attributes, [rows])


def kept(run: Run, digests: dict[str, str]) -> Iterator[Block]:
    """The models of this pack, one after the other, from the store; notes their digests."""
    for model in run.job.models:
        artifact = Artifact(run.store.path(run.plan.model_keys[model.name]), "models")
        arrays = (*ARRAYS, "snapshots") if _followed(run, model) else ARRAYS
        rows = {array: artifact[array] for array in arrays}
        digests[model.name] = part_digest(rows)
        yield rows


def pack_attributes(run: Run) -> dict[str, Any]:
    """Which models a pack holds, and the network they share."""
    if run.plan.pipeline:
        names = [model.name for model in run.job.models]
        config = pipeline_config(run.plan.pipeline)
        return {"models": names, "snapshots_of": [], FROM_PIPELINE: config}
    return {
        "models": [model.name for model in run.job.models],
        "snapshots_of": [model.name for model in run.job.models if _followed(run, model)],
        "config": config_of(run.plan).attributes(),
    }


def _followed(run: Run, model: Model) -> bool:
    """Whether the states along this model's training are kept: full models only."""
    return model.kind == "full" and run.params["models"]["snapshots"] > 0
