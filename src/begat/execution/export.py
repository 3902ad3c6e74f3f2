"""Export of trained models as diffusers pipelines."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.config.schema import Diffusion
from begat.diffusion.packed_network import PackedNetwork
from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.unet_shapes import UNetConfig
from begat.errors import BegatError
from begat.execution.jobs import path_of
from begat.execution.networks import prediction_type_of, schedule_of
from begat.execution.run_spec import RunSpec
from begat.storage.artifacts import Artifact, publish

if TYPE_CHECKING:
    from diffusers import DDPMPipeline

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
    if target.exists():
        raise BegatError(f"{target}: exists already; choose another directory")
    pipeline: Any = pipeline_of(spec, name, weights)
    publish(target, lambda scratch: pipeline.save_pretrained(scratch))


def pipeline_of(spec: RunSpec, name: str, weights: str = "ema") -> "DDPMPipeline":
    """Returns the model ``name`` of a run as a diffusers pipeline.

    Args:
        spec: the run whose model it is.
        name: the model's name, as ``begat status --models`` lists them.
        weights: ``ema`` or ``raw``.

    Raises:
        BegatError: no such model or weights, or it is not trained yet.
    """
    row, config = _weights(spec, name, weights)
    return to_pipeline(row, config, spec.params.diffusion)


def packed_of(
    spec: RunSpec, name: str, weights: str = "ema"
) -> tuple[Float[np.ndarray, " parameter"], PackedNetwork]:
    """Returns the model ``name`` of a run as a row of weights, and its network, on the CPU.

    Args and errors are those of ``pipeline_of``.
    """
    row, config = _weights(spec, name, weights)
    process = schedule_of(spec), prediction_type_of(spec)
    return row[0].numpy(), PackedNetwork(config, *process, torch.device("cpu"))


def _weights(
    spec: RunSpec, name: str, weights: str
) -> tuple[Float[Tensor, "1 parameter"], UNetConfig]:
    names = [model.name for model in spec.models]
    if name not in names:
        raise BegatError(f"{name}: expected one of the models {names[0]} .. {names[-1]}")
    if weights not in ARRAYS:
        raise BegatError(f"--weights: expected ema or raw, found {weights}")
    pack = Artifact(spec.root / path_of("models", spec.model(name).pack), "models")
    row = np.array([pack.attributes["models"].index(name)])
    config = UNetConfig.from_attributes(pack.attributes["config"])
    return torch.from_numpy(pack.rows(ARRAYS[weights], row)), config


def to_pipeline(
    row: Float[Tensor, "1 parameter"], config: UNetConfig, diffusion: Diffusion
) -> "DDPMPipeline":
    """Returns one model's weights as a diffusers pipeline.

    Args:
        row: the weights, as the ``models`` artifacts hold them.
        config: their network.
        diffusion: the section of the parameters.
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
    return DDPMPipeline(unet=network, scheduler=scheduler)
