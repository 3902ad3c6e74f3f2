"""Gradients of measurements by single images, each the mean over the image's draws.

All positions of all draws of an image go through one matrix product per layer,
G = sum_{draw, p} b_p a_p^T, so that a gradient per image costs about as much as the ordinary
gradient of the batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from begat.diffusion.denoisers import MEASUREMENTS, Answer, Denoiser, answer
from begat.diffusion.image_draws import Draws, DrawsOf
from begat.errors import BegatError
from begat.influence.convolutions import convolution_gradients
from begat.influence.layer_inputs import inputs_of, outputs_of
from begat.influence.layers import Layer, Tape, recorded

EXAMPLES = 256  # noisy images per network call; a matter of speed, memory and rounding only
HELD = 2**24  # numbers of gradients by image held at a time
CACHED = 2**19  # so many of them stay in a processor's cache
Back = Callable[[Sequence[int], Draws, Answer], Tensor]
Rows = Float[Tensor, "part image parameter"]


@dataclass(frozen=True)
class Sample:
    """Images to take gradients of: pixels as bytes, or as floats in -1..1, and their names.

    ``pixels`` may be anything that gives an array when sliced. ``number`` names an image's draws.
    """

    pixels: np.ndarray
    label: Int[np.ndarray, " image"] | None
    number: Sequence[int]

    def __len__(self) -> int:
        """How many images."""
        return len(self.number)

    def images(self, some: slice) -> Float[Tensor, "image channel y x"]:
        """Some of the images, in -1..1."""
        pixels = np.asarray(self.pixels[some])
        return torch.tensor(pixels / np.float32(127.5) - 1 if pixels.dtype == np.uint8 else pixels)

    def labels(self, some: slice) -> Int[Tensor, " image"] | None:
        """Their classes, if the images have any."""
        return None if self.label is None else torch.tensor(np.asarray(self.label[some])).long()

    def only(self, chosen: Sequence[int]) -> "Sample":
        """A smaller sample."""
        label = None if self.label is None else np.stack([self.label[i] for i in chosen])
        pixels = np.stack([self.pixels[i] for i in chosen])
        return Sample(pixels, label, [self.number[i] for i in chosen])


def blocks_of(sample: Sample, draws: int, examples: int = EXAMPLES) -> Iterator[slice]:
    """Consecutive images, so many that a network call sees about ``examples`` noisy ones."""
    several = max(1, examples // draws)
    for start in range(0, len(sample), several):
        yield slice(start, min(start + several, len(sample)))


def width(layers: Sequence[Layer]) -> int:
    """The length of a row of gradients."""
    return layers[-1].stop if layers else 0


def passes(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    sample: Sample,
    draws: DrawsOf,
    backs: Sequence[Back],
    examples: int = EXAMPLES,
) -> Iterator[tuple[slice, Draws, Tape]]:
    """Blocks of images, each with a tape that holds a backward pass: one for each of ``backs``.

    These give the gradient in the network's output, from the images' names, their draws and what
    the network answered. One forward pass serves them all.
    """
    with recorded(denoiser.module, layers) as tape:
        for some in blocks_of(sample, draws(sample.number[:1]).number, examples):
            names = sample.number[some]
            dealt = draws(names)
            tape.clear()
            found = answer(denoiser, sample.images(some), sample.labels(some), dealt)
            for i, back in enumerate(backs, 1):
                tape.backward(found.output, back(names, dealt, found), again=i < len(backs))
                yield some, dealt, tape


def backs_of(measurements: Sequence[str]) -> list[Back]:
    """For ``passes``: gradients of measurements named in ``diffusion.denoisers.MEASUREMENTS``."""
    return [lambda _, __, found, m=m: MEASUREMENTS[m](found) for m in measurements]  # type: ignore[misc]


def in_parts(draws: DrawsOf, parts: int) -> DrawsOf:
    """The same draws, split into so many independent lists."""
    return lambda names: draws(names).in_parts(parts)


def image_gradients(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    sample: Sample,
    draws: DrawsOf,
    measurements: Sequence[str] = ("noise",),
    *,
    parts: int = 1,
    each_draw: bool = False,
    examples: int = EXAMPLES,
) -> Iterator[tuple[slice, tuple[Rows, ...]]]:
    """Blocks of images with their gradients, ``[part, image, parameter]`` for each measurement.

    Args:
        denoiser: the network.
        layers: the layers to differentiate in; ``Layer.parameters`` names a row's parts.
        sample: the images.
        draws: gives the images' draws.
        measurements: names from ``diffusion.denoisers.MEASUREMENTS``; one forward pass serves all.
        parts: split the draws into so many independent lists, a gradient for each; their mean is
            the gradient by all draws.
        each_draw: every draw is a part.
        examples: see ``blocks_of``.

    Raises:
        BegatError: a gradient is not finite, with the image and the draw.
    """
    number = draws(sample.number[:1]).number
    parts = number if each_draw else parts
    most = max(1, HELD // (width(layers) * parts * len(measurements)))
    how = backs_of(measurements), min(examples, most * number)
    rows: list[Rows] = []
    for some, dealt, tape in passes(denoiser, layers, sample, in_parts(draws, parts), *how):
        names = sample.number[some]
        rows.append(part_gradients(tape, len(names), parts))
        check_finite(rows[-1], tape, names, dealt)
        if len(rows) == len(measurements):
            yield some, tuple(rows)
            rows = []


def part_gradients(tape: Tape, images: int, parts: int) -> Rows:
    """The gradients a tape holds after a backward pass, averaged over the draws of each part."""
    groups = images * parts
    like = tape.uses(tape.layers[0])[0][1]
    rows = like.new_empty(groups, width(tape.layers))
    for layer in tape.layers:
        for some, found in pieces(tape, layer, groups, CACHED):
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


@torch.no_grad()
def image_losses(
    denoiser: Denoiser, sample: Sample, draws: DrawsOf, *, examples: int = EXAMPLES
) -> Float[Tensor, " image"]:
    """Every image's squared error of the predicted noise, mean over its draws and pixels."""
    found = []
    for some in blocks_of(sample, draws(sample.number[:1]).number, examples):
        dealt = draws(sample.number[some])
        got = answer(denoiser, sample.images(some), sample.labels(some), dealt)
        error = (got.predicted - got.noise).square().flatten(1).mean(1)
        found.append(error.view(-1, dealt.number).mean(1).cpu())
    return torch.cat(found)


def mean_gradient(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    sample: Sample,
    draws: DrawsOf,
    measurement: str,
    *,
    parts: int = 1,
    examples: int = EXAMPLES,
) -> Float[Tensor, "part 1 parameter"]:
    """The mean of the images' gradients."""
    total = torch.zeros(parts, 1, width(layers), dtype=torch.float64, device=denoiser.like.device)
    stream = image_gradients(
        denoiser, layers, sample, draws, (measurement,), parts=parts, examples=examples
    )
    for _, (rows,) in stream:
        total += rows.sum(1, keepdim=True)
    return (total / len(sample)).to(denoiser.like)


def check_finite(rows: Rows, tape: Tape, names: Sequence[int], draws: Draws) -> None:
    """Nothing, where all gradients are numbers.

    Raises:
        BegatError: one is not, with the image and the draw.
    """
    if rows.sum(2).isfinite().all() or rows.isfinite().all():  # a sum is cheaper to look at
        return
    wrong = (~rows.isfinite()).any(2).any(0).nonzero()
    image = int(wrong[0])
    of_image = slice(image * draws.number, (image + 1) * draws.number)
    sick = torch.zeros(draws.number, dtype=torch.bool)
    for layer in tape.layers:
        for values in tape.positions(layer):
            sick |= ~values[of_image].isfinite().flatten(1).all(1).cpu()
    draw = int(sick.int().argmax())
    raise BegatError(
        f"the gradient of image {names[image]} is not finite in draw {draw} "
        f"(timestep {int(draws.timestep[image, draw])}): did the model diverge?"
    )
