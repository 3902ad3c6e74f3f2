"""Vision networks that a person names: from timm, or a file that torch.export wrote."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from begat.errors import BegatError


def named_network(name: str, root: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The network called ``timm:NAME`` or ``file:PATH``; takes RGB images in -1..1 of any size.

    timm fetches weights from its hub if they are not cached: naming one asks for that.

    Raises:
        BegatError: timm is not installed or knows no such model; the file is no exported network.
    """
    source, _, what = name.partition(":")
    return (_from_timm if source == "timm" else _from_file)(what, root, device)


def _from_timm(what: str, root: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    try:
        import timm
    except ImportError:
        raise BegatError(
            f"scores_features.network: timm:{what} needs timm: pip install timm"
        ) from None
    try:
        network = timm.create_model(what, pretrained=True, num_classes=0).eval().to(device)
    except Exception as error:  # timm and its hub raise what they like
        raise BegatError(
            f"scores_features.network: timm:{what}: {' '.join(str(error).split())}"
        ) from None
    wanted = network.pretrained_cfg
    mean, std = (torch.tensor(wanted[k], device=device).view(3, 1, 1) for k in ("mean", "std"))

    def ask(image: Tensor) -> Tensor:
        sized = F.interpolate(image, wanted["input_size"][-2:], mode="bicubic", antialias=True)
        found: Tensor = network((sized / 2 + 0.5 - mean) / std)
        return found

    return ask


def _from_file(what: str, root: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    path = root / what
    if not path.is_file():
        raise BegatError(f"{path}: expected a network exported by torch.export, found no file")
    try:
        exported = torch.export.load(path)
    except Exception as error:  # torch raises what it likes on other files
        said = " ".join(str(error).split())
        raise BegatError(f"{path}: expected a network exported by torch.export: {said}") from None
    network: nn.Module = exported.module().to(device)
    return network
