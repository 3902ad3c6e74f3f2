"""A pack of models as tensors: stacked by parameter name, or one flat row per model.

Computing wants the first form (every parameter with a leading ``model`` axis), storing the second
(``weights[model, parameter]``, parameters in the order of ``unet.parameter_shapes``).
"""

import math
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.unet_shapes import UNetConfig, parameter_shapes
from begat.errors import BegatError


def stack(models: Iterable[Mapping[str, Tensor]]) -> dict[str, Float[Tensor, "model ..."]]:
    """Models side by side: every parameter gains a leading ``model`` axis."""
    models = list(models)
    return {name: torch.stack([m[name] for m in models]) for name in models[0]}


def flatten(
    weights: Mapping[str, Float[Tensor, "model ..."]],
) -> Float[Tensor, "model parameter"]:
    """One row per model, in the order of the mapping."""
    return torch.cat([w.flatten(1) for w in weights.values()], 1)


def unflatten(
    rows: Float[Tensor, "model parameter"], config: UNetConfig
) -> dict[str, Float[Tensor, "model ..."]]:
    """The stacked parameters that ``flatten`` made into ``rows``.

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
