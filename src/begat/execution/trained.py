"""Trained networks, with their weights from the artifacts of this run."""

import numpy as np
import torch
from jaxtyping import Float

from begat.data.pipelines import network_of
from begat.diffusion.denoisers import Denoiser, DenoiserPredictor, unet_denoiser
from begat.diffusion.noise_predictors import Predictor
from begat.ensembles.model_specs import Model
from begat.execution.architecture import config_of
from begat.execution.context import JobContext
from begat.execution.networks import FROM_PIPELINE, prediction_type_of, schedule_of


def weights_array(context: JobContext) -> str:
    """The name of the weights that answer questions."""
    return "ema_weights" if context.params.diffusion.use_ema else "weights"


def row_of(context: JobContext, model: Model) -> Float[np.ndarray, " parameter"]:
    """The weights with which one model answers questions."""
    pack = context.input("models", model.pack)
    return pack.rows(
        weights_array(context), np.array([pack.attributes["models"].index(model.name)])
    )[0]


def predictor_of(context: JobContext) -> Predictor:
    """The models that this job asks, in the order of the plan; those that forgot, by group."""
    rows: dict[str, np.ndarray] = {}
    for pack in context.inputs("models"):
        names = pack.attributes["models"]
        wanted = [i for i, n in enumerate(names) if any(m.name == n for m in context.job.models)]
        found = pack.rows(weights_array(context), np.array(wanted))
        rows |= zip((names[i] for i in wanted), found, strict=True)
    for pack in context.inputs("unlearned"):
        rows |= zip(pack.attributes["groups"], pack["weights"], strict=True)
    asked = [m.name for m in context.job.models] or list(rows)
    prediction, schedule = prediction_type_of(context.spec), schedule_of(context.spec)
    if context.spec.pipeline:
        return DenoiserPredictor(
            denoiser_of(context, rows[asked[0]]), config_of(context.spec), context.device
        )
    weights = torch.stack([torch.from_numpy(rows[name]) for name in asked])
    return Predictor(weights, config_of(context.spec), schedule, prediction, context.device)


def denoiser_of(context: JobContext, row: Float[np.ndarray, " parameter"]) -> Denoiser:
    """A network of this run with the given weights, to look into."""
    prediction, schedule = prediction_type_of(context.spec), schedule_of(context.spec)
    if not context.spec.pipeline:
        weights = torch.from_numpy(row)
        return unet_denoiser(weights, config_of(context.spec), schedule, prediction, context.device)
    network = network_of(row, context.inputs("models")[0].attributes[FROM_PIPELINE])
    conditional = context.params.unet.class_conditional
    return Denoiser(network.to(context.device), schedule, prediction, conditional)
