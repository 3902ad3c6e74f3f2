"""Vision networks of timm, with weights from its hub or from a safetensors file."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from begat.data.safetensors_files import read_weights
from begat.errors import BegatError, brief

KEY = "scores_features.network"


def named_network(
    name: str, weights: Path | None, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Returns timm's network without its classifier, a function of RGB images in -1..1.

    Images of any size are resized to that of the network.

    Files written by torch.export or TorchScript are not accepted: they are programs, which loading
    would run. timm gives the architecture, and a safetensors file holds numbers only.

    Args:
        name: a name in ``timm.list_models()``, optionally with a tag (``resnet18.a1_in1k``).
        weights: their safetensors file; without one, timm fetches its own from its hub, if they
            are not cached.
        device: where the network is evaluated.

    Raises:
        BegatError: timm is not installed or knows no such network; weights that do not fit it.
    """
    try:
        import timm
    except ImportError:
        raise BegatError(f"{KEY}: timm:{name} needs timm: pip install timm") from None
    try:
        network = timm.create_model(name, pretrained=weights is None, num_classes=0)
    except Exception as error:  # timm and its hub raise errors of any kind
        raise BegatError(f"{KEY}: timm:{name}: {brief(error)}") from None
    config = network.pretrained_cfg
    if weights:
        _fill(network, weights, config.get("classifier"))
    network = network.eval().to(device)
    mean, std = (torch.tensor(config[k], device=device).view(3, 1, 1) for k in ("mean", "std"))

    def features(image: Tensor) -> Tensor:
        resized = F.interpolate(image, config["input_size"][-2:], mode="bicubic", antialias=True)
        output: Tensor = network((resized / 2 + 0.5 - mean) / std)
        return output

    return features


def _fill(network: nn.Module, path: Path, classifier: str | tuple[str, ...] | None) -> None:
    """Load weights that fit the network exactly, except those of the removed classifier."""
    unused = (classifier,) if isinstance(classifier, str) else classifier or ()
    weights = {
        name: tensor
        for name, tensor in read_weights(path).items()
        if not any(name.startswith(f"{layer}.") for layer in unused)
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # names all missing, unexpected and misshapen weights
        raise BegatError(f"{path}: {brief(error)}") from None
