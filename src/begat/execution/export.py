"""Export of trained models as diffusers pipelines."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.config.schema import Diffusion
from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.unet import UNetConfig
from begat.errors import BegatError
from begat.execution.jobs import path_of
from begat.execution.run_spec import RunSpec
from begat.storage.artifacts import Artifact, publish

ARRAYS = {"ema": "ema_weights", "raw": "weights"}


def export(spec: RunSpec, name: str, weights: str, target: Path) -> None:
    """Write the model ``name`` of a run as a ``DDPMPipeline`` directory.

    Args:
        spec: the run that trained it.
        name: the model's name, as ``begat status --models`` lists them.
        weights: ``ema`` or ``raw``.
        target: a directory that does not exist yet.

    Raises:
        BegatError: no such model or weights, not trained yet, or a target that exists.
    """
    names = [model.name for model in spec.models]
    if name not in names:
        raise BegatError(f"{name}: expected one of the models {names[0]} .. {names[-1]}")
    if weights not in ARRAYS:
        raise BegatError(f"--weights: expected ema or raw, found {weights}")
    if target.exists():
        raise BegatError(f"{target}: exists already; choose another directory")
    pack = Artifact(spec.root / path_of("models", spec.model(name).pack), "models")
    row = np.array([pack.attributes["models"].index(name)])
    config = UNetConfig.from_attributes(pack.attributes["config"])
    weight = torch.from_numpy(pack.rows(ARRAYS[weights], row))
    write_pipeline(weight, config, spec.params.diffusion, target)


def write_pipeline(
    row: Float[Tensor, "1 parameter"],
    config: UNetConfig,
    diffusion: Diffusion,
    target: Path,
) -> None:
    """Write one model's weights as a pipeline of safetensors and JSON.

    Args:
        row: the weights, as the ``models`` artifacts hold them.
        config: their network.
        diffusion: the section of the parameters.
        target: a directory that does not exist yet.
    """
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel  # takes seconds

    network: Any = UNet2DModel(**config.diffusers_arguments())
    stacked = unflatten(row, config)
    network.load_state_dict({name: weight[0] for name, weight in stacked.items()})
    scheduler = DDPMScheduler(
        num_train_timesteps=diffusion.num_train_timesteps,
        beta_schedule=diffusion.beta_schedule,
        prediction_type=diffusion.prediction_type,
        timestep_spacing="trailing",
    )
    pipeline: Any = DDPMPipeline(unet=network, scheduler=scheduler)
    publish(target, lambda scratch: pipeline.save_pretrained(scratch))
