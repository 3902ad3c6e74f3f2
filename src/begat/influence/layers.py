"""Tracked layers of a torch module, and the position of their gradients in a flat row.

A tracked layer is linear in its parameters at every *position* (a pixel of a convolution's output,
a token, or the one position of a time embedding): output_p = W a_p + bias. With ``b_p`` the
gradient of a scalar in output_p, the gradient of that scalar is ``sum_p b_p a_p^T`` for the weight
and ``sum_p b_p`` for the bias. ``a_p`` of a convolution is its patch, in the order (ky, kx,
channel): windows of channels-last images are copied in long runs. ``Layer.named_parameters``
restores the parameters' own order.

Normalisation layers are linear in their parameters too: a_p is the normalised input, the weight
diagonal.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """A tracked layer: its module, and the position of its gradients in a flat row.

    ``in_features`` is the length of ``a_p``, 0 for a normalisation layer.
    """

    name: str
    module: nn.Module
    out_features: int
    in_features: int
    has_bias: bool
    start: int

    @property
    def stop(self) -> int:
        """The start of the next layer."""
        return self.weight_span.stop + self.out_features * self.has_bias

    @property
    def span(self) -> slice:
        """The columns of the layer in a row."""
        return slice(self.start, self.stop)

    @property
    def weight_span(self) -> slice:
        """The columns of the weight in a row: outputs vary slowest."""
        return slice(self.start, self.start + self.out_features * (self.in_features or 1))

    @property
    def bias_span(self) -> slice:
        """The columns of the bias in a row; none without a bias."""
        return slice(self.weight_span.stop, self.stop)

    def views(self, columns: Float[Tensor, "row column"]) -> list[Float[Tensor, "row ..."]]:
        """Returns views of the layer's columns of flat rows: its weight, then its bias.

        A convolution's weight comes by row of the kernel, as ``[row, output, window]``.
        """
        weight, bias = columns.tensor_split([self.weight_span.stop - self.start], 1)
        views = [weight.unflatten(1, (self.out_features, -1)) if self.in_features else weight]
        if isinstance(self.module, nn.Conv2d):
            views = list(views[0].unflatten(2, (self.module.kernel_size[0], -1)).unbind(2))
        return [*views, bias] if self.has_bias else views

    def named_parameters(
        self, row: Float[Tensor, "*batch parameter"]
    ) -> dict[str, Float[Tensor, "..."]]:
        """Returns the layer's columns of flat rows by parameter, in the parameters' own shapes."""
        weight = row[..., self.weight_span]
        shape = tuple(self.module.weight.shape)  # type: ignore[arg-type]
        if isinstance(self.module, nn.Conv2d):
            patch = (*shape[2:], shape[1])
            weight = weight.unflatten(-1, (shape[0], *patch)).movedim(-1, -3)
        else:
            weight = weight.unflatten(-1, shape)
        parameters = {f"{self.name}.weight": weight}
        if self.has_bias:
            shape = tuple(self.module.bias.shape)  # type: ignore[arg-type]
            parameters[f"{self.name}.bias"] = row[..., self.bias_span].unflatten(-1, shape)
        return parameters


def tracked_layers(module: nn.Module, *, norms: bool = False) -> list[Layer]:
    """Returns every convolution and linear layer, with ``norms`` also GroupNorm and LayerNorm.

    Untracked: grouped convolutions, padding that is not plain zeros, layers without parameters.
    """
    layers: list[Layer] = []
    for name, submodule in module.named_modules():
        features = _features(submodule, norms)
        if features:
            start = layers[-1].stop if layers else 0
            layers.append(Layer(name, submodule, *features, submodule.bias is not None, start))
    return layers


def _features(module: nn.Module, norms: bool) -> tuple[int, int] | None:
    """Returns ``out_features`` and ``in_features`` of a module that can be tracked, else None."""
    if isinstance(module, nn.Conv2d):
        tracked = module.groups == 1 and module.padding_mode == "zeros"
        tracked = tracked and not isinstance(module.padding, str)
        taps = module.kernel_size[0] * module.kernel_size[1]
        return (module.out_channels, module.in_channels * taps) if tracked else None
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if norms and isinstance(module, nn.GroupNorm | nn.LayerNorm) and module.weight is not None:
        return module.weight.numel(), 0
    return None


def row_columns(
    layers: Sequence[Layer], shapes: Mapping[str, tuple[int, ...]]
) -> Int[Tensor, " parameter"]:
    """Returns the column in the layers' rows of every parameter, in the order of ``shapes``.

    -1 for a parameter of no tracked layer.
    """
    columns = torch.arange(layers[-1].stop)
    tracked = {n: c for layer in layers for n, c in layer.named_parameters(columns).items()}
    return torch.cat(
        [
            tracked[name].flatten() if name in tracked else torch.full((math.prod(shape),), -1)
            for name, shape in shapes.items()
        ]
    )


def untracked_parameters(module: nn.Module, layers: Sequence[Layer]) -> dict[str, float]:
    """Returns every parameter outside ``layers``, with its share of all parameters."""
    tracked = {id(p) for layer in layers for p in layer.module.parameters(recurse=False)}
    total = sum(p.numel() for p in module.parameters())
    return {n: p.numel() / total for n, p in module.named_parameters() if id(p) not in tracked}


def row_width(layers: Sequence[Layer]) -> int:
    """Returns the length of a row of gradients."""
    return layers[-1].stop if layers else 0
