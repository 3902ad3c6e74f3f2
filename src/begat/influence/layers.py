"""The layers of any torch module: which are covered, and where their gradients stand in a row.

A covered layer is linear in its parameters at every *position* (a pixel of a convolution's output,
a token, or the one position of a time embedding): output_p = W a_p + bias. With ``b_p`` the
gradient of a scalar in output_p, the gradient of that scalar is ``sum_p b_p a_p^T`` for the weight
and ``sum_p b_p`` for the bias. ``a_p`` of a convolution is its patch, in the order (ky, kx,
channel): windows of channels-last images are copied in long runs. ``Layer.parameters`` gives the
parameters' own order back.

Normalisation layers are linear in their parameters too: a_p is the normalised input, the weight
diagonal.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from begat.errors import BegatError


@dataclass(frozen=True)
class Layer:
    """A covered layer: its module, and where its gradients stand in a flat row.

    ``inputs`` is the length of ``a_p``, 0 for a normalisation layer.
    """

    name: str
    module: nn.Module
    outputs: int
    inputs: int
    bias: bool
    start: int

    @property
    def weight(self) -> slice:
        """Where the weight stands in a row: outputs first, inputs second."""
        return slice(self.start, self.start + self.outputs * (self.inputs or 1))

    @property
    def stop(self) -> int:
        """Where the next layer begins."""
        return self.weight.stop + self.outputs * self.bias

    @property
    def place(self) -> slice:
        """Where the layer stands in a row."""
        return slice(self.start, self.stop)

    def split(self, part: Float[Tensor, "row part"]) -> list[Float[Tensor, "row ..."]]:
        """Views of the layer's part of flat rows: its weight, a convolution's by row of the kernel
        as ``[row, output, window]``, then its bias.
        """
        weight, bias = part.tensor_split([self.weight.stop - self.start], 1)
        views = [weight.unflatten(1, (self.outputs, -1)) if self.inputs else weight]
        if isinstance(self.module, nn.Conv2d):
            views = list(views[0].unflatten(2, (self.module.kernel_size[0], -1)).unbind(2))
        return [*views, bias] if self.bias else views

    def parameters(self, row: Float[Tensor, "*batch parameter"]) -> dict[str, Float[Tensor, "..."]]:
        """The layer's part of flat rows, by parameter name and in the parameters' own shapes."""
        part = row[..., self.weight]
        shape = tuple(self.module.weight.shape)  # type: ignore[arg-type]
        if isinstance(self.module, nn.Conv2d):
            patch = (*shape[2:], shape[1])
            weight = part.unflatten(-1, (shape[0], *patch)).movedim(-1, -3)
        else:
            weight = part.unflatten(-1, shape)
        found = {f"{self.name}.weight": weight}
        if self.bias:
            of_bias = row[..., self.weight.stop : self.stop]
            found[f"{self.name}.bias"] = of_bias.unflatten(-1, tuple(self.module.bias.shape))  # type: ignore[arg-type]
        return found


def covered_layers(module: nn.Module, *, norms: bool = False) -> list[Layer]:
    """Every convolution and linear layer, with ``norms`` also GroupNorm and LayerNorm.

    Left out: grouped convolutions, padding that is not plain zeros, layers without parameters.
    """
    layers: list[Layer] = []
    for name, part in module.named_modules():
        sizes = _sizes(part, norms)
        if sizes:
            start = layers[-1].stop if layers else 0
            bias = part.bias is not None
            layers.append(Layer(name, part, *sizes, bias, start))
    return layers


def _sizes(part: nn.Module, norms: bool) -> tuple[int, int] | None:
    """Outputs and inputs of a layer that can be covered, else None."""
    if isinstance(part, nn.Conv2d):
        plain = part.groups == 1 and part.padding_mode == "zeros"
        taps = part.kernel_size[0] * part.kernel_size[1]
        whole = plain and not isinstance(part.padding, str)
        return (part.out_channels, part.in_channels * taps) if whole else None
    if isinstance(part, nn.Linear):
        return part.out_features, part.in_features
    if norms and isinstance(part, nn.GroupNorm | nn.LayerNorm) and part.weight is not None:
        return part.weight.numel(), 0
    return None


def named_order(
    layers: Sequence[Layer], shapes: Mapping[str, tuple[int, ...]]
) -> Int[Tensor, " parameter"]:
    """For every parameter of a flat row in the order of ``shapes``, its place in layers' rows.

    -1 for a parameter that no layer covers.
    """
    places = torch.arange(layers[-1].stop)
    inside = {n: p for layer in layers for n, p in layer.parameters(places).items()}
    return torch.cat(
        [
            inside[name].flatten() if name in inside else torch.full((math.prod(shape),), -1)
            for name, shape in shapes.items()
        ]
    )


def uncovered(module: nn.Module, layers: Sequence[Layer]) -> dict[str, float]:
    """Every parameter outside ``layers``, with its share of all parameters."""
    inside = {id(p) for layer in layers for p in layer.module.parameters(recurse=False)}
    total = sum(p.numel() for p in module.parameters())
    return {n: p.numel() / total for n, p in module.named_parameters() if id(p) not in inside}


def require_coverage(module: nn.Module, layers: Sequence[Layer]) -> None:
    """Nothing, where all parameters are covered.

    Raises:
        BegatError: some are not, with their share.
    """
    if left := uncovered(module, layers):
        raise BegatError(
            f"{len(left)} parameters ({sum(left.values()):.2%} of all) belong to no covered layer:"
            f" {', '.join(list(left)[:4])}{', ...' if len(left) > 4 else ''}"
        )


def width(layers: Sequence[Layer]) -> int:
    """The length of a row of gradients."""
    return layers[-1].stop if layers else 0
