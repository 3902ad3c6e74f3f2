"""A trained diffusers pipeline that somebody brings: what it is, and its network."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from begat.errors import BegatError

NETWORK, SUPPORTED = "unet", "UNet2DModel"
SCHEDULES = {"linear": "linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}


def pipeline_digest(folder: Path) -> str:
    """One digest of the network and the scheduler.

    Raises:
        BegatError: no pipeline lies there.
    """
    _config(folder, NETWORK, "config.json")
    files = [p for part in (NETWORK, "scheduler") for p in sorted((folder / part).glob("*"))]
    digests = [[p.name, hashlib.sha256(p.read_bytes()).hexdigest()] for p in files if p.is_file()]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def check_pipeline(folder: Path, params: Mapping[str, Any]) -> None:
    """Raise BegatError where the pipeline is not of a supported kind, or other than ``params``."""
    network = _config(folder, NETWORK, "config.json")
    scheduler = _config(folder, "scheduler", "scheduler_config.json")
    if network.get("_class_name") != SUPPORTED:
        raise BegatError(
            f"{folder / NETWORK}: expected a {SUPPORTED} (the network of a DDPMPipeline), found "
            f"{network.get('_class_name')}"
        )
    schedule = SCHEDULES.get(scheduler.get("beta_schedule", ""))
    betas = (scheduler.get("beta_start"), scheduler.get("beta_end"))
    if schedule is None or (schedule == "linear" and betas != (1e-4, 0.02)):
        raise BegatError(
            f"{folder / 'scheduler'}: expected a squaredcos_cap_v2 or a linear schedule from 1e-4 "
            f"to 0.02, found {scheduler.get('beta_schedule')} {betas}"
        )
    size = network.get("sample_size")
    asked = {
        "images.size": (params["images"]["size"], size[0] if isinstance(size, list) else size),
        "images.channels": (params["images"]["channels"], network.get("in_channels")),
        "diffusion.schedule": (params["diffusion"]["schedule"], schedule),
        "diffusion.timesteps": (
            params["diffusion"]["timesteps"],
            scheduler.get("num_train_timesteps"),
        ),
        "diffusion.prediction": (
            params["diffusion"]["prediction"],
            PREDICTIONS.get(scheduler.get("prediction_type", "epsilon")),
        ),
        "unet.conditional": (
            params["unet"]["conditional"],
            bool(network.get("num_class_embeds")),
        ),
    }
    for name, (here, there) in asked.items():
        if here != there:
            raise BegatError(f"{name}: expected {there}, as in the pipeline {folder}; found {here}")


def pipeline_row(folder: Path) -> tuple[Float[np.ndarray, " parameter"], dict[str, Any]]:
    """The network's parameters end to end, and the configuration that ``network_of`` wants."""
    from diffusers import UNet2DModel  # takes seconds

    try:
        network: Any = UNet2DModel.from_pretrained(folder, subfolder=NETWORK, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise BegatError(f"{folder / NETWORK}: could not be loaded: {said}") from None
    rows = [p.detach().float().flatten() for p in network.parameters()]
    return torch.cat(rows).numpy(), dict(_config(folder, NETWORK, "config.json"))


def network_of(row: Float[np.ndarray, " parameter"], config: Mapping[str, Any]) -> nn.Module:
    """The network that ``pipeline_row`` took apart."""
    from diffusers import UNet2DModel  # takes seconds

    network: Any = UNet2DModel.from_config(dict(config))
    torch.nn.utils.vector_to_parameters(torch.from_numpy(row), network.parameters())
    return nn.Module.eval(network)


def _config(folder: Path, part: str, name: str) -> dict[str, Any]:
    path = folder / part / name
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise BegatError(
            f"models.pipeline: {folder}: expected a diffusers pipeline directory, found no "
            f"{part}/{name} in it"
        ) from None
    except json.JSONDecodeError as error:
        raise BegatError(f"{path}: not JSON: {error}") from None
    return found
