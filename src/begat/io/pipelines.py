"""A trained diffusers pipeline that somebody brings: what it is, and its network."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from begat.errors import BegatError
from begat.io.keys import digest, file_digest

if TYPE_CHECKING:  # planning asks for digests and checks only, and starts without torch
    from torch import nn

NETWORK, SUPPORTED = "unet", "UNet2DModel"
SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}  # our words to diffusers'
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction"}


def pipeline_digest(folder: Path) -> str:
    """One digest of the network and the scheduler.

    Raises:
        BegatError: no pipeline lies there.
    """
    pipeline_config(folder)
    files = [p for part in (NETWORK, "scheduler") for p in sorted((folder / part).glob("*"))]
    return digest([[p.name, file_digest(p)] for p in files if p.is_file()])


def check_pipeline(folder: Path, params: Mapping[str, Any], classes: int) -> None:
    """Raise BegatError where the pipeline is not of a supported kind, or other than ``params``.

    A conditional network must have as many ``classes`` as the images; that class k is the k-th of
    their sorted names cannot be checked.
    """
    network = pipeline_config(folder)
    scheduler = _config(folder, "scheduler", "scheduler_config.json")
    if network.get("_class_name") != SUPPORTED:
        raise BegatError(
            f"{folder / NETWORK}: expected a {SUPPORTED} (the network of a DDPMPipeline), found "
            f"{network.get('_class_name')}"
        )
    schedule = _ours(SCHEDULES, scheduler.get("beta_schedule"))
    betas = (scheduler.get("beta_start"), scheduler.get("beta_end"))
    if schedule is None or (schedule == "linear" and betas != (1e-4, 0.02)):
        raise BegatError(
            f"{folder / 'scheduler'}: expected a squaredcos_cap_v2 or a linear schedule from 1e-4 "
            f"to 0.02, found {scheduler.get('beta_schedule')} {betas}"
        )
    for key in ("trained_betas", "rescale_betas_zero_snr"):  # either replaces the schedule above
        if scheduler.get(key):
            raise BegatError(f"{folder / 'scheduler'}: {key}: expected none, found one")
    if network.get("class_embed_type"):
        raise BegatError(
            f"{folder / NETWORK}: class_embed_type: expected none, as classes are numbers, found "
            f"{network['class_embed_type']}"
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
            _ours(PREDICTIONS, scheduler.get("prediction_type", "epsilon")),
        ),
        "unet.conditional": (
            params["unet"]["conditional"],
            bool(network.get("num_class_embeds")),
        ),
    }
    for name, (here, there) in asked.items():
        if here != there:
            raise BegatError(f"{name}: expected {there}, as in the pipeline {folder}; found {here}")
    channels, returned = network.get("in_channels"), network.get("out_channels")
    if returned != channels:
        raise BegatError(
            f"{folder / NETWORK}: out_channels: expected {channels}, as in_channels (a learned "
            f"variance is not supported), found {returned}"
        )
    embedded = network.get("num_class_embeds")
    if embedded and embedded != classes:
        raise BegatError(
            f"{folder / NETWORK}: num_class_embeds: expected {classes}, one for each class of "
            f"images (their conditions, or else their groups) by sorted name, found {embedded}"
        )


def _ours(words: Mapping[str, str], theirs: str | None) -> str | None:
    return next((word for word, known in words.items() if known == theirs), None)


def pipeline_config(folder: Path) -> dict[str, Any]:
    """The network's configuration, as ``network_of`` wants it."""
    return _config(folder, NETWORK, "config.json")


def pipeline_row(folder: Path) -> Float[np.ndarray, " parameter"]:
    """The network's parameters, end to end."""
    import torch
    from diffusers import UNet2DModel  # takes seconds

    try:
        network: Any = UNet2DModel.from_pretrained(folder, subfolder=NETWORK, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise BegatError(f"{folder / NETWORK}: could not be loaded: {said}") from None
    rows = [p.detach().float().flatten() for p in network.parameters()]
    return torch.cat(rows).numpy()


def network_of(row: Float[np.ndarray, " parameter"], config: Mapping[str, Any]) -> "nn.Module":
    """The network that ``pipeline_row`` took apart."""
    import torch
    from diffusers import UNet2DModel  # takes seconds

    network: Any = UNet2DModel.from_config(dict(config))
    torch.nn.utils.vector_to_parameters(torch.from_numpy(row), network.parameters())
    return torch.nn.Module.eval(network)


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
