"""Per-example gradients, and those of groups of examples, from a tape after a backward pass.

All positions of all draws of an image go through one matrix product per layer,
G = sum_{draw, p} b_p a_p^T, so that a gradient per image costs about as much as the ordinary
gradient of the batch.
"""

from collections.abc import Iterator
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from begat.influence.convolutions import convolution_gradients
from begat.influence.layer_inputs import (
    Activations,
    OutputGradients,
    layer_inputs,
    output_gradients,
)
from begat.influence.layers import Layer, row_width
from begat.influence.tapes import CACHE_ELEMENTS, Tape

Rows = Float[Tensor, "part image parameter"]


def part_gradients(tape: Tape, images: int, parts: int) -> Rows:
    """Returns the gradients on a tape, each the mean over the draws of an image in one part."""
    groups = images * parts
    like = tape.layer_calls(tape.layers[0])[0][1]
    rows = like.new_empty(groups, row_width(tape.layers))
    for layer in tape.layers:
        for chunk, gradients in gradient_chunks(tape, layer, groups, CACHE_ELEMENTS):
            views = layer.views(rows[chunk, layer.span])
            for view, gradient in zip(views, gradients, strict=True):
                view.copy_(gradient)
    return rows.unflatten(0, (images, parts)).transpose(0, 1)


def gradient_chunks(
    tape: Tape, layer: Layer, groups: int, max_elements: int
) -> Iterator[tuple[slice, Iterator[Float[Tensor, "group ..."]]]]:
    """Yields a layer's gradients of consecutive slices of groups, as ``Layer.views`` cuts rows.

    A group is the mean over equally many consecutive examples of the tape. About ``max_elements``
    elements are made at a time; each gradient is valid until the next one is computed.
    """
    calls = tape.layer_calls(layer)
    activation = calls[0][0]
    size = len(activation) // groups  # examples in a group
    taps = layer.module.kernel_size[1] if isinstance(layer.module, nn.Conv2d) else 1
    per_group = layer.out_features * layer.in_features // size
    elements = max(taps * activation[0].numel(), per_group)
    for examples in tape.slices(layer, elements, size, max_elements):
        by_call = [
            _call_gradients(layer, activation[examples], gradient[examples] / size, size)
            for activation, gradient in calls
        ]
        yield (
            slice(examples.start // size, examples.stop // size),
            (reduce(torch.add, terms) for terms in zip(*by_call, strict=True)),
        )


def _call_gradients(
    layer: Layer, activation: Tensor, gradient: Tensor, group_size: int
) -> Iterator[Float[Tensor, "group ..."]]:
    """Yields what one call of a layer adds to the gradients of each group of examples."""
    if isinstance(layer.module, nn.Conv2d):
        yield from convolution_gradients(layer.module, activation, gradient, group_size)
        bias = gradient.sum((2, 3)).unflatten(0, (-1, group_size)).sum(1)
    else:
        a, b = (
            matrix.reshape(len(matrix) // group_size, -1, matrix.shape[2])
            for matrix in (
                layer_inputs(layer.module, activation),
                output_gradients(layer.module, gradient),
            )
        )
        yield _weight_gradients(layer, a, b)
        bias = b.sum(1)
    if layer.has_bias:
        yield bias


def _weight_gradients(
    layer: Layer, a: Activations, b: OutputGradients
) -> Float[Tensor, "example ..."]:
    return torch.bmm(b.transpose(1, 2), a) if layer.in_features else (a * b).sum(1)


def layer_gradients(
    layer: Layer, a: Activations, b: OutputGradients
) -> Float[Tensor, "example parameter"]:
    """Returns a layer's columns of every example's row, summed over positions."""
    weight = _weight_gradients(layer, a, b).flatten(1)
    return torch.cat([weight, b.sum(1)], 1) if layer.has_bias else weight
