"""External diffusers pipelines: compatibility checks, digest and network."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from begat.config.schema import Params
from begat.data.safetensors_files import read_weights
from begat.errors import BegatError, brief
from begat.storage.digests import digest, file_digest

if TYPE_CHECKING:  # planning needs digests and checks only, and starts without torch
    from torch import nn

NETWORK, SUPPORTED = "unet", "UNet2DModel"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SUPPORTED_SCHEDULERS = ("DDPMScheduler", "DDIMScheduler")
FORWARD = {  # keys that determine the forward process, with the defaults of diffusers
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "prediction_type": "epsilon",
}
SAMPLING = {  # keys of sampling, which the section queries replaces
    "clip_sample",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "set_alpha_to_one",
    "steps_offset",
    "thresholding",
    "timestep_spacing",
    "variance_type",
}
BETA_SCHEDULES = ("linear", "squaredcos_cap_v2")


def pipeline_digest(folder: Path) -> str:
    """Returns one digest of the network and the scheduler.

    Raises:
        BegatError: no pipeline is there.
    """
    pipeline_config(folder)
    files = [p for part in (NETWORK, "scheduler") for p in sorted((folder / part).glob("*"))]
    return digest([[p.name, file_digest(p)] for p in files if p.is_file()])


def check_pipeline(folder: Path, params: Params, classes: int) -> None:
    """Raise BegatError unless the pipeline is of a supported kind and fits ``params``.

    A conditional network must have as many ``classes`` as the images; that class k is the k-th of
    their sorted names cannot be checked.
    """
    network = pipeline_config(folder)
    if network.get("_class_name") != SUPPORTED:
        raise BegatError(
            f"{folder / NETWORK}: expected a {SUPPORTED} (the network of a DDPMPipeline), found "
            f"{brief(network.get('_class_name'))}"
        )
    if network.get("class_embed_type"):
        raise BegatError(
            f"{folder / NETWORK}: class_embed_type: expected none, as classes are numbers, found "
            f"{brief(network['class_embed_type'])}"
        )
    scheduler, size = _scheduler(folder), network.get("sample_size")
    square = size[0] if isinstance(size, list) and size and size == size[:1] * 2 else size
    expected = {
        "images.size": square,
        "images.channels": network.get("in_channels"),
        "diffusion.beta_schedule": scheduler["beta_schedule"],
        "diffusion.num_train_timesteps": scheduler["num_train_timesteps"],
        "diffusion.prediction_type": scheduler["prediction_type"],
        "unet.class_conditional": bool(network.get("num_class_embeds")),
    }
    for name, value in expected.items():
        if (parameter := params.value(name)) != value:
            raise BegatError(
                f"{name}: expected {brief(value)}, as in the pipeline {folder}; found {parameter}"
            )
    channels, outputs = network.get("in_channels"), network.get("out_channels")
    if outputs != channels:
        raise BegatError(
            f"{folder / NETWORK}: out_channels: expected {channels}, as in_channels (a learned "
            f"variance is not supported), found {brief(outputs)}"
        )
    embedded = network.get("num_class_embeds")
    if embedded and embedded != classes:
        raise BegatError(
            f"{folder / NETWORK}: num_class_embeds: expected {classes}, one for each class of "
            f"images (their conditions, or else their groups) by sorted name, found "
            f"{brief(embedded)}"
        )


def _scheduler(folder: Path) -> dict[str, Any]:
    """Returns the scheduler's configuration, with the defaults of absent keys.

    Raises:
        BegatError: another forward process than the linear or the cosine one, or an unknown key,
            which might make it another.
    """
    place = folder / "scheduler"
    config = _config(folder, "scheduler", "scheduler_config.json")
    if config.get("_class_name") not in SUPPORTED_SCHEDULERS:
        raise BegatError(
            f"{place}: expected a {' or a '.join(SUPPORTED_SCHEDULERS)}, found "
            f"{brief(config.get('_class_name'))}"
        )
    for key, value in config.items():
        is_known = key in FORWARD or key in SAMPLING or key.startswith("_")
        if not is_known and value not in (None, False):
            raise BegatError(
                f"{place}: {brief(key)}: expected none, found one, which might change the noise "
                "schedule"
            )
    scheduler = {**FORWARD, **config}
    name = scheduler["beta_schedule"]
    betas = (scheduler["beta_start"], scheduler["beta_end"])
    supported = (FORWARD["beta_start"], FORWARD["beta_end"])
    if name not in BETA_SCHEDULES or (name == "linear" and betas != supported):
        raise BegatError(
            f"{place}: expected a squaredcos_cap_v2 or a linear schedule from 1e-4 to 0.02, found "
            f"{brief(name)} {brief(betas)}"
        )
    return scheduler


def pipeline_config(folder: Path) -> dict[str, Any]:
    """Returns the network's configuration, for ``network_of``."""
    return _config(folder, NETWORK, "config.json")


def pipeline_row(folder: Path) -> Float[np.ndarray, " parameter"]:
    """Returns the network's parameters, flattened and concatenated.

    Raises:
        BegatError: weights in another format than safetensors, or not those of the network that
            its configuration describes.
    """
    import torch
    from diffusers import UNet2DModel  # takes seconds

    place = folder / NETWORK
    _check_weights(place)
    try:
        network: Any
        network, loading = UNet2DModel.from_pretrained(
            folder,
            subfolder=NETWORK,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as error:  # diffusers raises errors of any kind on other configurations
        raise BegatError(f"{place}: could not be loaded: {brief(error)}") from None
    for kind, fault in (("missing_keys", "missing"), ("unexpected_keys", "not in the network")):
        if names := sorted(loading[kind]):
            raise BegatError(
                f"{place / WEIGHTS}: expected the weights that config.json describes, found "
                f"{len(names)} {fault}: {brief(', '.join(names))}"
            )
    rows = [p.detach().float().flatten() for p in network.parameters()]
    return torch.cat(rows).numpy()


def _check_weights(place: Path) -> None:
    """Raise BegatError for weights that diffusers would look for in another file, or format."""
    from diffusers import UNet2DModel  # takes seconds

    arguments = inspect.signature(UNet2DModel.__init__).parameters
    for key in _config(place.parent, NETWORK, "config.json"):
        if key not in arguments and not key.startswith("_"):
            raise BegatError(f"{place / 'config.json'}: {brief(key)}: unknown to a {SUPPORTED}")
    if (index := place / f"{WEIGHTS}.index.json").exists():
        raise BegatError(f"{index}: expected all weights in one file {WEIGHTS}, found several")
    if not (place / WEIGHTS).is_file() and (others := sorted(place.glob("*.bin"))):
        raise BegatError(
            f"{others[0]}: expected {WEIGHTS}, as files in this format can run code; write the "
            "pipeline again with safe_serialization=True"
        )
    read_weights(place / WEIGHTS)


def network_of(row: Float[np.ndarray, " parameter"], config: Mapping[str, Any]) -> "nn.Module":
    """Returns the network of this configuration with the weights of ``pipeline_row``."""
    import torch
    from diffusers import UNet2DModel  # takes seconds

    network: Any = UNet2DModel.from_config(dict(config))
    torch.nn.utils.vector_to_parameters(torch.from_numpy(row), network.parameters())
    return torch.nn.Module.eval(network)


def _config(folder: Path, part: str, name: str) -> dict[str, Any]:
    path = folder / part / name
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BegatError(
            f"models.pipeline: {folder}: expected a diffusers pipeline directory, found no "
            f"{part}/{name} in it"
        ) from None
    except OSError as error:
        raise BegatError(f"{path}: could not be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, nested too deeply
        raise BegatError(f"{path}: not JSON: {brief(error)}") from None
    if not isinstance(config, dict):
        raise BegatError(f"{path}: expected an object with keys, found {brief(config)}")
    return config
