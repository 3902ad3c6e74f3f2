"""Trained networks of this run, with their weights from its artifacts."""

import numpy as np
import torch
from jaxtyping import Float

from begat.data.pipelines import network_of
from begat.diffusion.denoisers import Denoiser, DenoiserPredictor, unet_denoiser
from begat.diffusion.noise_predictors import NoisePredictor, PackPredictor
from begat.ensembles.model_specs import Model
from begat.execution.architecture import config_of
from begat.execution.context import JobContext
from begat.execution.networks import FROM_PIPELINE, prediction_type_of, schedule_of


def weights_array(context: JobContext) -> str:
    """Returns the name of the array of weights that are attributed and measured."""
    return "ema_weights" if context.params.diffusion.use_ema else "weights"


def row_of(context: JobContext, model: Model) -> Float[np.ndarray, " parameter"]:
    """Returns the weights of one model that are attributed and measured."""
    pack = context.input("models", model.pack)
    return pack.rows(
        weights_array(context), np.array([pack.attributes["models"].index(model.name)])
    )[0]


def predictor_of(context: JobContext) -> NoisePredictor:
    """Returns the job's models in the order of the plan, or unlearned models in that of groups."""
    rows = _rows_by_name(context)
    names = [model.name for model in context.job.models] or list(rows)
    config = config_of(context.spec)
    if context.spec.pipeline:
        return DenoiserPredictor(denoiser_of(context, rows[names[0]]), config, context.device)
    prediction, schedule = prediction_type_of(context.spec), schedule_of(context.spec)
    weights = torch.stack([torch.from_numpy(rows[name]) for name in names])
    return PackPredictor(weights, config, schedule, prediction, context.device)


def _rows_by_name(context: JobContext) -> dict[str, Float[np.ndarray, " parameter"]]:
    """Returns the weights of the job's models by name, and of unlearned models by group."""
    names, rows = {model.name for model in context.job.models}, dict[str, np.ndarray]()
    for pack in context.inputs("models"):
        held = pack.attributes["models"]
        positions = [i for i, name in enumerate(held) if name in names]
        weights = pack.rows(weights_array(context), np.array(positions))
        rows |= zip((held[i] for i in positions), weights, strict=True)
    for pack in context.inputs("unlearned"):
        rows |= zip(pack.attributes["groups"], pack["weights"], strict=True)
    return rows


def denoiser_of(context: JobContext, row: Float[np.ndarray, " parameter"]) -> Denoiser:
    """Returns a network of this run with the given weights, for gradients."""
    prediction, schedule = prediction_type_of(context.spec), schedule_of(context.spec)
    if not context.spec.pipeline:
        weights = torch.from_numpy(row)
        return unet_denoiser(weights, config_of(context.spec), schedule, prediction, context.device)
    network = network_of(row, context.inputs("models")[0].attributes[FROM_PIPELINE])
    conditional = context.params.unet.class_conditional
    return Denoiser(network.to(context.device), schedule, prediction, conditional)
