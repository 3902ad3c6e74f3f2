"""Pixel values in the range of the network's inputs."""

from typing import TypeVar

import numpy as np
from torch import Tensor

Values = TypeVar("Values", np.ndarray, Tensor)


def to_model_range(pixels: Values) -> Values:
    """Values in -1..1 of pixels in 0..255.

    Computed in the dtype of ``pixels``, which must be a floating one: cast unsigned bytes first,
    as NumPy and PyTorch would choose different dtypes for them.
    """
    return pixels / 127.5 - 1
