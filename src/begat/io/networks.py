"""Models between disk and memory: networks from parameters, trained weights from artifacts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from begat.core.denoisers import Denoiser, DenoiserPredictor, unet_denoiser
from begat.core.diffusion import SCHEDULES, Schedule
from begat.core.predictors import Predictor
from begat.core.roster import Model
from begat.core.unet import UNetConfig
from begat.errors import BegatError
from begat.io.artifacts import Artifact, Block, remove, write
from begat.io.job import Run
from begat.io.pipelines import network_of, pipeline_config
from begat.io.plan import Plan

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
            classes=len(plan.dataset.groups) if unet["conditional"] else 0,
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
    return run.read("images")["member_of"].argmax(0) if conditional else None


def untrained(run: Run) -> list[Model]:
    """The models of this pack that no earlier run has trained."""
    return [m for m in run.job.models if not run.store.has(run.plan.model_keys[m.name])]


def keep(run: Run, models: Sequence[Model], trained: Mapping[str, np.ndarray]) -> None:
    """Take trained models into the store, each under its own key."""
    for i, model in enumerate(models):
        key = run.plan.model_keys[model.name]
        scratch = run.store.folder / f"{key}.zarr"
        arrays = (*ARRAYS, "snapshots") if _followed(run, model) else ARRAYS
        write(scratch, "models", {"key": key}, [{a: trained[a][i : i + 1] for a in arrays}])
        run.store.keep(key, scratch)
        remove(scratch)


def kept(run: Run) -> Iterator[Block]:
    """The models of this pack, one after the other, from the store."""
    for model in run.job.models:
        artifact = Artifact(run.store.path(run.plan.model_keys[model.name]), "models")
        arrays = (*ARRAYS, "snapshots") if _followed(run, model) else ARRAYS
        yield {array: artifact[array] for array in arrays}


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


def weights_array(run: Run) -> str:
    """The name of the weights that answer questions."""
    return "ema_weights" if run.params["diffusion"]["weights"] == "ema" else "weights"


def row_of(run: Run, model: Model) -> Float[np.ndarray, " parameter"]:
    """The weights with which one model answers questions."""
    pack = run.read("models", model.pack)
    return pack.rows(weights_array(run), np.array([pack.attributes["models"].index(model.name)]))[0]


def predictor_of(run: Run) -> Predictor:
    """The models that this job asks, in the order of the plan; those that forgot, by group."""
    rows: dict[str, np.ndarray] = {}
    for pack in run.reads("models"):
        names = pack.attributes["models"]
        wanted = [i for i, n in enumerate(names) if any(m.name == n for m in run.job.models)]
        found = pack.rows(weights_array(run), np.array(wanted))
        rows |= zip((names[i] for i in wanted), found, strict=True)
    for pack in run.reads("unlearned"):
        rows |= zip(pack.attributes["groups"], pack["weights"], strict=True)
    asked = [m.name for m in run.job.models] or list(rows)
    prediction, schedule = run.params["diffusion"]["prediction"], schedule_of(run.plan)
    if run.plan.pipeline:
        return DenoiserPredictor(denoiser_of(run, rows[asked[0]]), config_of(run.plan), run.device)
    weights = torch.stack([torch.from_numpy(rows[name]) for name in asked])
    return Predictor(weights, config_of(run.plan), schedule, prediction, run.device)


def denoiser_of(run: Run, row: Float[np.ndarray, " parameter"]) -> Denoiser:
    """A network of this run with the given weights, to look into."""
    prediction, schedule = run.params["diffusion"]["prediction"], schedule_of(run.plan)
    if not run.plan.pipeline:
        weights = torch.from_numpy(row)
        return unet_denoiser(weights, config_of(run.plan), schedule, prediction, run.device)
    network = network_of(row, run.reads("models")[0].attributes[FROM_PIPELINE])
    conditional = run.params["unet"]["conditional"]
    return Denoiser(network.to(run.device), schedule, prediction, conditional)
