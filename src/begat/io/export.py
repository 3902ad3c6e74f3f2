"""A trained model as a plain diffusers pipeline that any other tool can load."""

from pathlib import Path

import torch

from begat.core.packs import unflatten
from begat.core.unet import UNetConfig
from begat.errors import BegatError
from begat.io.artifacts import Artifact, publish
from begat.io.plan import Plan, path_of

BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}


def export(plan: Plan, name: str, weights: str, target: Path) -> None:
    """Write the model ``name`` as a ``DDPMPipeline`` directory (safetensors and JSON).

    Args:
        plan: the run whose model it is.
        name: the model's name, as ``begat status --models`` lists them.
        weights: ``ema`` or ``raw``.
        target: a directory that does not exist yet.

    Raises:
        BegatError: no such model, not trained yet, or a target that exists.
    """
    names = [model.name for model in plan.models]
    if name not in names:
        raise BegatError(f"{name}: expected one of the models {names[0]} .. {names[-1]}")
    if target.exists():
        raise BegatError(f"{target}: exists already; choose another directory")
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel  # takes seconds

    pack = Artifact(plan.root / path_of("models", plan.model(name).pack), "models")
    row = pack.attributes["models"].index(name)
    config = UNetConfig.from_attributes(pack.attributes["config"])
    array = pack["ema_weights" if weights == "ema" else "weights"]
    stacked = unflatten(torch.from_numpy(array[row : row + 1]), config)
    network = UNet2DModel(**config.diffusers_arguments())
    network.load_state_dict({name: weight[0] for name, weight in stacked.items()})
    diffusion = plan.params["diffusion"]
    scheduler = DDPMScheduler(
        num_train_timesteps=diffusion["timesteps"],
        beta_schedule=BETAS[diffusion["schedule"]],
        prediction_type=PREDICTIONS[diffusion["prediction"]],
        timestep_spacing="trailing",
    )
    pipeline = DDPMPipeline(unet=network, scheduler=scheduler)
    publish(target, lambda scratch: pipeline.save_pretrained(scratch))
