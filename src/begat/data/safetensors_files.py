"""Safetensors files, the only format of weights that is read."""

from pathlib import Path
from typing import TYPE_CHECKING

from begat.errors import BegatError, brief

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"


def read_weights(path: Path) -> "dict[str, Tensor]":
    """Returns all tensors of a safetensors file, by name.

    Raises:
        BegatError: no such file, one in another format, a number that is not finite.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise BegatError(f"{path}: expected a {SUFFIX} file of weights, found none")
    try:
        weights = load_file(path)
    except Exception as error:  # errors of several kinds on damaged files
        raise BegatError(f"{path}: expected a {SUFFIX} file of weights: {brief(error)}") from None
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise BegatError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
    return weights
