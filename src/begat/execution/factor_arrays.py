"""Artifacts of ``factors``: arrays by layer, in and out, and the inverse curvature they give.

A network has a hundred layers, and a file for each array of each would be slow on any file system.
So an array holds what all layers have of its kind, flat, one behind another (groups apart);
the attribute ``layers`` lists, in that order, every layer's name and shapes.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.unet_shapes import parameter_shapes
from begat.execution.architecture import config_of
from begat.execution.context import JobContext
from begat.execution.trained import denoiser_of
from begat.influence.kronecker import blocks, preconditioned
from begat.influence.layers import covered_layers, named_order
from begat.storage.artifacts import Artifact, Block, aligned
from begat.storage.schema import schema_of

ByLayer = Mapping[str, Mapping[str, np.ndarray]]
KINDS = {name: len(array.axes) - 1 for name, array in schema_of("factors").items()}  # axes kept


def shapes_of(found: ByLayer) -> list[dict[str, Any]]:
    """What the attribute ``layers`` says of arrays by layer and name."""
    return [
        {"name": layer, "shapes": {kind: list(v.shape) for kind, v in arrays.items()}}
        for layer, arrays in found.items()
    ]


def flat(found: ByLayer) -> Iterator[Block]:
    """The arrays of an artifact, from arrays by layer and name."""
    for kind, kept in KINDS.items():
        parts = [arrays[kind] for arrays in found.values() if kind in arrays]
        rows = [v.reshape(*v.shape[:kept], math.prod(v.shape[kept:])) for v in parts]
        if rows:
            yield {kind: np.concatenate(rows, kept)}


def by_layer(stored: Artifact) -> dict[str, dict[str, np.ndarray]]:
    """All arrays of an artifact, by layer and name."""
    layers = stored.attributes["layers"]
    found: dict[str, dict[str, np.ndarray]] = {layer["name"]: {} for layer in layers}
    for kind in (kind for kind in KINDS if kind in stored):
        values, kept, start = stored[kind], KINDS[kind], 0
        for layer in (layer for layer in layers if kind in layer["shapes"]):
            shape = layer["shapes"][kind]
            stop = start + math.prod(shape[kept:])
            found[layer["name"]][kind] = aligned(values[..., start:stop].reshape(shape))
            start = stop
    return found


def preconditioner_of(
    context: JobContext, row: Float[np.ndarray, " parameter"], damping: float
) -> Callable[[Tensor], Tensor]:
    """The inverse EK-FAC curvature at a model's weights, applied to rows of gradients.

    ``damping`` is a multiple of each block's mean eigenvalue. What layers that the curvature does
    not cover have in a row becomes zero.
    """
    (model,) = context.job.models
    stored = context.input("factors", model.name)
    layers = covered_layers(denoiser_of(context, row).module, norms=stored.attributes["norms"])
    place = named_order(layers, parameter_shapes(config_of(context.spec)))
    covered = (place >= 0).nonzero()[:, 0]
    curvature = {
        layer: {name: torch.from_numpy(v).to(context.device) for name, v in arrays.items()}
        for layer, arrays in by_layer(stored).items()
    }

    def precondition(rows: Tensor) -> Tensor:
        inside = torch.zeros(len(rows), layers[-1].stop, device=rows.device)
        inside[:, place[covered]] = rows[:, covered]
        found = blocks(layers, curvature, "ekfac")
        (moved,) = preconditioned(found, inside, "mean_eigenvalue", [damping])
        result = torch.zeros_like(rows)
        result[:, covered] = moved[:, place[covered]]
        return result

    return precondition
