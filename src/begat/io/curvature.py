"""Inverse curvature from the artifacts of ``factors``."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.core.kronecker import blocks, preconditioned
from begat.core.layers import covered_layers, named_order
from begat.core.unet import parameter_shapes
from begat.io.job import Run
from begat.io.networks import config_of
from begat.io.trained import denoiser_of


def preconditioner_of(
    run: Run, row: Float[np.ndarray, " parameter"], damping: float
) -> Callable[[Tensor], Tensor]:
    """The inverse EK-FAC curvature at a model's weights, applied to rows of gradients.

    ``damping`` is a multiple of each block's mean eigenvalue. What layers that the curvature does
    not cover have in a row becomes zero.
    """
    (model,) = run.job.models
    stored = run.read("factors", model.name)
    layers = covered_layers(denoiser_of(run, row).module, norms=stored.attributes["norms"])
    place = named_order(layers, parameter_shapes(config_of(run.plan)))
    covered = (place >= 0).nonzero()[:, 0]
    curvature = {
        layer: {name: torch.from_numpy(v).to(run.device) for name, v in arrays.items()}
        for layer, arrays in stored.layers().items()
    }

    def precondition(rows: Tensor) -> Tensor:
        inside = torch.zeros(len(rows), layers[-1].stop, device=rows.device)
        inside[:, place[covered]] = rows[:, covered]
        found = blocks(layers, curvature, "ekfac")
        (moved,) = preconditioned(found, inside, "relative", [damping])
        result = torch.zeros_like(rows)
        result[:, covered] = moved[:, place[covered]]
        return result

    return precondition
