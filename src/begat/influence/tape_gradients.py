"""Gradients of groups of examples, from what a tape holds after a backward pass.

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
from begat.influence.layer_inputs import inputs_of, outputs_of
from begat.influence.layers import Layer, width
from begat.influence.tapes import CACHE_NUMBERS, Tape

Rows = Float[Tensor, "part image parameter"]


def part_gradients(tape: Tape, images: int, parts: int) -> Rows:
    """The gradients a tape holds after a backward pass, averaged over the draws of each part."""
    groups = images * parts
    like = tape.uses(tape.layers[0])[0][1]
    rows = like.new_empty(groups, width(tape.layers))
    for layer in tape.layers:
        for some, found in pieces(tape, layer, groups, CACHE_NUMBERS):
            for view, piece in zip(layer.split(rows[some, layer.place]), found, strict=True):
                view.copy_(piece)
    return rows.unflatten(0, (images, parts)).transpose(0, 1)


def pieces(
    tape: Tape, layer: Layer, groups: int, held: int
) -> Iterator[tuple[slice, Iterator[Float[Tensor, "group ..."]]]]:
    """A layer's gradients of some groups after others, cut as ``Layer.split`` cuts rows.

    A group is the mean over equally many successive examples of the tape. About ``held`` numbers
    are made at a time; each part is there until the next is asked for.
    """
    uses = tape.uses(layer)
    draws = len(uses[0][0]) // groups
    taps = layer.module.kernel_size[1] if isinstance(layer.module, nn.Conv2d) else 1
    numbers = max(taps * uses[0][0][0].numel(), layer.outputs * layer.inputs // draws)
    for some in tape.slices(layer, numbers, draws, held):
        found = [_products(layer, seen[some], back[some] / draws, draws) for seen, back in uses]
        yield (
            slice(some.start // draws, some.stop // draws),
            (reduce(torch.add, several) for several in zip(*found, strict=True)),
        )


def _products(layer: Layer, seen: Tensor, back: Tensor, draws: int) -> Iterator[Tensor]:
    """What one use of a layer gives to each group of several draws."""
    if isinstance(layer.module, nn.Conv2d):
        yield from convolution_gradients(layer.module, seen, back, draws)
        bias = back.sum((2, 3)).unflatten(0, (-1, draws)).sum(1)
    else:
        a, b = inputs_of(layer.module, seen), outputs_of(layer.module, back)
        a, b = (v.reshape(len(v) // draws, -1, v.shape[2]) for v in (a, b))
        yield _weight(layer, a, b)
        bias = b.sum(1)
    if layer.bias:
        yield bias


def _weight(layer: Layer, a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(b.transpose(1, 2), a) if layer.inputs else (a * b).sum(1)


def layer_gradients(
    layer: Layer,
    a: Float[Tensor, "example position feature_in"],
    b: Float[Tensor, "example position feature_out"],
) -> Float[Tensor, "example parameter"]:
    """A layer's part of every example's row, its positions summed."""
    weight = _weight(layer, a, b).flatten(1)
    return torch.cat([weight, b.sum(1)], 1) if layer.bias else weight
