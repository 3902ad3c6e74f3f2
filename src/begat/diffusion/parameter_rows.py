"""Parameters of a pack of models: stacked by name, or as one flat row per model.

Networks compute with the first form (every parameter with a leading ``model`` axis); artifacts
hold the second (``weights[model, parameter]``, in the order of ``unet.parameter_shapes``).
"""

import math
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.unet_shapes import UNetConfig, parameter_shapes
from begat.errors import BegatError


def stack(models: Iterable[Mapping[str, Tensor]]) -> dict[str, Float[Tensor, "model ..."]]:
    """Returns every parameter with a leading ``model`` axis."""
    models = list(models)
    return {name: torch.stack([m[name] for m in models]) for name in models[0]}


def flatten(
    weights: Mapping[str, Float[Tensor, "model ..."]],
) -> Float[Tensor, "model parameter"]:
    """Returns one row per model, parameters in the order of the mapping."""
    return torch.cat([w.flatten(1) for w in weights.values()], 1)


def unflatten(
    rows: Float[Tensor, "model parameter"], config: UNetConfig
) -> dict[str, Float[Tensor, "model ..."]]:
    """Returns the stacked parameters of which ``flatten`` made ``rows``.

    Raises:
        BegatError: the rows do not have as many parameters as the configuration.
    """
    shapes = parameter_shapes(config)
    sizes = [math.prod(shape) for shape in shapes.values()]
    if rows.shape[1] != sum(sizes):
        raise BegatError(f"expected {sum(sizes)} parameters per model, found {rows.shape[1]}")
    parts = rows.split(sizes, 1)
    return {
        name: part.reshape(-1, *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
