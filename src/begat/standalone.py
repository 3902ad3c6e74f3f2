"""Per-example gradients and EK-FAC curvature of torch modules, for notebooks and other programs.

Gradients come by the names and in the shapes of the module's own parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from begat.diffusion.denoisers import Denoiser
from begat.errors import BegatError
from begat.influence.factors import FactorsConfig, factors
from begat.influence.gradient_source import ImageSet
from begat.influence.kronecker import CurvatureBlock, curvature_blocks, preconditioned
from begat.influence.layers import Layer, row_width, tracked_layers
from begat.influence.tape_gradients import part_gradients
from begat.influence.tapes import recording

Gradients = dict[str, Float[Tensor, "row ..."]]  # by name of the parameter


def per_example_gradients(
    module: nn.Module, losses: Callable[[], Float[Tensor, " example"]], *, norms: bool = True
) -> Gradients:
    """Returns the gradient of every example's loss, by name of the parameter.

    It takes about as long as the ordinary gradient of the batch. The module computes in evaluation
    mode, without dropout.

    Args:
        module: any module; its convolutions, linear layers and, with ``norms``, GroupNorm and
            LayerNorm are differentiated.
        losses: calls the module on a batch and returns one loss per example, each of its own
            example only.
        norms: include normalisation layers.

    Raises:
        BegatError: the module has no such layer, or one of them took no part in the losses.
    """
    layers = tracked_layers(module, norms=norms)
    if not layers:
        raise BegatError("expected a module with a convolution or linear layer, found none")
    with recording(module, layers) as tape:
        tape.clear()
        values = losses()
        if values.ndim != 1:
            raise BegatError(f"expected a loss per example, found shape {tuple(values.shape)}")
        tape.backward(values, torch.ones_like(values))
        (rows,) = part_gradients(tape, len(values), 1)
    return _by_parameter(layers, rows)


@dataclass(frozen=True)
class EkFac:
    """The EK-FAC curvature of a denoiser's training loss, of ``ekfac``.

    Attributes:
        layers: the layers that it covers.
        blocks: their parts of the curvature, in eigenbases.
    """

    layers: Sequence[Layer]
    blocks: Sequence[CurvatureBlock]

    def solve(
        self, gradients: Mapping[str, Float[Tensor, "row ..."]], damping: float = 0.1
    ) -> Gradients:
        """Returns gradients times the damped inverse curvature.

        Args:
            gradients: from ``per_example_gradients`` with the same layers.
            damping: a multiple of each block's mean eigenvalue.

        Raises:
            BegatError: a parameter has no gradient, or no damping and a singular curvature.
        """
        rows = _rows(self.layers, gradients)
        (solution,) = preconditioned(self.blocks, rows, "mean_eigenvalue", [damping])
        return _by_parameter(self.layers, solution)


def ekfac(denoiser: Denoiser, images: ImageSet, config: FactorsConfig, *, seed: int = 0) -> EkFac:
    """Returns the EK-FAC curvature of a denoiser's training loss over its training images.

    Args:
        denoiser: such as ``diffusion.denoisers.pipeline_denoiser`` of a diffusers pipeline.
        images: its training images.
        config: how many draws of timestep and noise each image gets, and more.
        seed: from which draws are derived.

    Raises:
        BegatError: the network has no convolution or linear layer.
    """
    groups = np.zeros((0, len(images)), bool)
    arrays = factors(denoiser, images, groups, config, seed=seed)
    tensors = {
        layer: {name: torch.from_numpy(array).to(denoiser.like) for name, array in parts.items()}
        for layer, parts in arrays.items()
    }
    layers = tracked_layers(denoiser.module, norms=config.norms)
    return EkFac(layers, curvature_blocks(layers, tensors, "ekfac"))


def _by_parameter(layers: Sequence[Layer], rows: Float[Tensor, "row parameter"]) -> Gradients:
    return {name: g for layer in layers for name, g in layer.named_parameters(rows).items()}


def _rows(
    layers: Sequence[Layer], gradients: Mapping[str, Float[Tensor, "row ..."]]
) -> Float[Tensor, "row parameter"]:
    """Returns gradients by name of the parameter as flat rows: inverse of ``_by_parameter``."""
    first = next(iter(gradients.values()))
    rows = first.new_empty(len(first), row_width(layers))
    for name, view in _by_parameter(layers, rows).items():
        if name not in gradients:
            raise BegatError(f"expected a gradient of {name}, found none")
        view.copy_(gradients[name])  # into the rows, of which it is a view
    return rows
