"""Vision networks of timm, by name; their weights from timm's hub or from a safetensors file."""

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
    """timm's network of this name, without its classifier; takes RGB images in -1..1 of any size.

    A file that torch.export or TorchScript wrote is not accepted: it is a program, which loading it
    would run. timm gives the architecture, and a safetensors file holds numbers only.

    Args:
        name: a name in ``timm.list_models()``, optionally with a tag (``resnet18.a1_in1k``).
        weights: their safetensors file; without one, timm fetches its own from its hub, if they
            are not cached.
        device: where the network runs.

    Raises:
        BegatError: timm is not installed or knows no such network; weights that do not fit it.
    """
    try:
        import timm
    except ImportError:
        raise BegatError(f"{KEY}: timm:{name} needs timm: pip install timm") from None
    try:
        network = timm.create_model(name, pretrained=weights is None, num_classes=0)
    except Exception as error:  # timm and its hub raise what they like
        raise BegatError(f"{KEY}: timm:{name}: {brief(error)}") from None
    wanted = network.pretrained_cfg
    if weights:
        _fill(network, weights, wanted.get("classifier"))
    network = network.eval().to(device)
    mean, std = (torch.tensor(wanted[k], device=device).view(3, 1, 1) for k in ("mean", "std"))

    def ask(image: Tensor) -> Tensor:
        sized = F.interpolate(image, wanted["input_size"][-2:], mode="bicubic", antialias=True)
        found: Tensor = network((sized / 2 + 0.5 - mean) / std)
        return found

    return ask


def _fill(network: nn.Module, path: Path, classifier: str | tuple[str, ...] | None) -> None:
    """Load weights that fit the network exactly, but for those of the classifier it has not."""
    unused = (classifier,) if isinstance(classifier, str) else classifier or ()
    weights = {
        name: tensor
        for name, tensor in read_weights(path).items()
        if not any(name.startswith(f"{layer}.") for layer in unused)
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # names every weight that is missing, in excess or of other shape
        raise BegatError(f"{path}: {brief(error)}") from None
