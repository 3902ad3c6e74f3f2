"""Trained networks, with their weights from the artifacts of this run."""

import numpy as np
import torch
from jaxtyping import Float

from begat.data.pipelines import network_of
from begat.diffusion.denoisers import Denoiser, DenoiserPredictor, unet_denoiser
from begat.diffusion.noise_predictors import Predictor
from begat.ensembles.model_specs import Model
from begat.execution.context import Run
from begat.execution.networks import FROM_PIPELINE, config_of, schedule_of


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
