"""Artifacts of ``factors``: arrays by layer, read and written, and the preconditioner they give.

A network has a hundred layers, and a file for each array of each would be slow on any file system.
So an array concatenates those of all layers of one name, flat (groups apart); the attribute
``layers`` lists, in that order, every layer's name and shapes.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.unet_shapes import parameter_shapes
from begat.execution.architecture import config_of
from begat.execution.context import JobContext
from begat.execution.trained import denoiser_of
from begat.influence.factors import Factors
from begat.influence.kronecker import curvature_blocks, preconditioned
from begat.influence.layers import row_columns, tracked_layers
from begat.storage.artifacts import Artifact, Block, aligned
from begat.storage.schema import schema_of

# array name -> axes before the flat one
LEADING_AXES = {name: len(array.axes) - 1 for name, array in schema_of("factors").items()}


def layer_shapes(factors: Factors) -> list[dict[str, Any]]:
    """Returns the attribute ``layers``, from arrays by layer and name."""
    return [
        {"name": layer, "shapes": {name: list(v.shape) for name, v in arrays.items()}}
        for layer, arrays in factors.items()
    ]


def flat_arrays(factors: Factors) -> Iterator[Block]:
    """Yields the arrays of an artifact, from arrays by layer and name."""
    for name, axes in LEADING_AXES.items():
        arrays = [by_name[name] for by_name in factors.values() if name in by_name]
        rows = [v.reshape(*v.shape[:axes], math.prod(v.shape[axes:])) for v in arrays]
        if rows:
            yield {name: np.concatenate(rows, axes)}


def arrays_by_layer(artifact: Artifact) -> dict[str, dict[str, np.ndarray]]:
    """Returns all arrays of an artifact, by layer and name."""
    layers = artifact.attributes["layers"]
    factors: dict[str, dict[str, np.ndarray]] = {layer["name"]: {} for layer in layers}
    for name in (name for name in LEADING_AXES if name in artifact):
        values, axes, start = artifact[name], LEADING_AXES[name], 0
        for layer in (layer for layer in layers if name in layer["shapes"]):
            shape = layer["shapes"][name]
            stop = start + math.prod(shape[axes:])
            factors[layer["name"]][name] = aligned(values[..., start:stop].reshape(shape))
            start = stop
    return factors


def preconditioner_of(
    context: JobContext, row: Float[np.ndarray, " parameter"], damping: float
) -> Callable[[Tensor], Tensor]:
    """Returns the inverse EK-FAC curvature at a model's weights, as a function of gradient rows.

    ``damping`` is a multiple of each block's mean eigenvalue. Columns of untracked parameters
    become zero.
    """
    (model,) = context.job.models
    artifact = context.input("factors", model.name)
    layers = tracked_layers(denoiser_of(context, row).module, norms=artifact.attributes["norms"])
    columns = row_columns(layers, parameter_shapes(config_of(context.spec)))
    tracked = (columns >= 0).nonzero()[:, 0]
    curvature = {
        layer: {name: torch.from_numpy(v).to(context.device) for name, v in arrays.items()}
        for layer, arrays in arrays_by_layer(artifact).items()
    }

    def precondition(rows: Tensor) -> Tensor:
        gradients = torch.zeros(len(rows), layers[-1].stop, device=rows.device)
        gradients[:, columns[tracked]] = rows[:, tracked]
        blocks = curvature_blocks(layers, curvature, "ekfac")
        (steps,) = preconditioned(blocks, gradients, "mean_eigenvalue", [damping])
        result = torch.zeros_like(rows)
        result[:, tracked] = steps[:, columns[tracked]]
        return result

    return precondition
