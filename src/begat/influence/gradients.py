"""Gradients of measurements by single images, each the mean over the image's draws.

Examples go through the network in blocks whose memory is bounded (``influence.blocks``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from begat.diffusion.bounds import MAX_GRADIENT_NUMBERS
from begat.diffusion.denoisers import MEASUREMENTS, Answer, Denoiser, answer
from begat.diffusion.image_draws import DrawsOf
from begat.errors import BegatError
from begat.influence.blocks import MAX_EXAMPLES, Block, blocks_of, runs_of, within_bounds
from begat.influence.layers import Layer, covered_layers, width
from begat.influence.tape_gradients import Rows, part_gradients
from begat.influence.tapes import Tape, recorded

Back = Callable[[Block, Answer], Tensor]


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


def passes(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    sample: Sample,
    draws: DrawsOf,
    backs: Sequence[Back],
    examples: int = MAX_EXAMPLES,
    parts: int = 1,
) -> Iterator[tuple[Block, Tape]]:
    """Blocks of examples, each with a tape that holds a backward pass: one for each of ``backs``.

    These give the gradient in the network's output, from the block and what the network answered.
    One forward pass serves them all. A block has at most ``examples`` examples, fewer where
    ``influence.blocks.within_bounds`` says so. The draws are split into ``parts`` independent lists.
    """
    one = draws(sample.number[:1])
    with recorded(denoiser.module, layers) as tape:
        examples = within_bounds(examples, tape, denoiser, one, sample.labels(slice(0, 1)))
        for some in blocks_of(sample, one.number, examples):
            names = sample.number[some]
            dealt, images, labels = draws(names), sample.images(some), sample.labels(some)
            for run in runs_of(one.number, parts, examples):
                block = Block(some, names, dealt.in_parts(parts), run, parts)
                tape.clear()
                found = answer(denoiser, images, labels, block.draws)
                for i, back in enumerate(backs, 1):
                    tape.backward(found.output, back(block, found), again=i < len(backs))
                    yield block, tape


def backs_of(measurements: Sequence[str]) -> list[Back]:
    """For ``passes``: the gradients of measurements named in ``diffusion.denoisers.MEASUREMENTS``."""
    return [lambda _, found, m=m: MEASUREMENTS[m](found) for m in measurements]  # type: ignore[misc]


def image_gradients(
    denoiser: Denoiser,
    layers: Sequence[Layer],
    sample: Sample,
    draws: DrawsOf,
    measurements: Sequence[str] = ("noise",),
    *,
    parts: int = 1,
    each_draw: bool = False,
    examples: int = MAX_EXAMPLES,
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
        examples: noisy images per network call, at most.

    Raises:
        BegatError: a gradient is not finite, with the image and the draw.
    """
    number = draws(sample.number[:1]).number
    parts = number if each_draw else parts
    kinds = len(measurements)
    most = max(1, MAX_GRADIENT_NUMBERS // (width(layers) * parts * kinds))
    how = backs_of(measurements), min(examples, most * number), parts
    totals: list[Rows] = []
    for turn, (block, tape) in enumerate(passes(denoiser, layers, sample, draws, *how)):
        rows = block_gradients(tape, block)
        if block.is_first and block.is_last:
            totals.append(rows)
        else:
            if block.is_first:
                totals.append(rows.new_zeros(parts, *rows.shape[1:]))
            totals[turn % kinds][block.parts_held].add_(rows, alpha=block.share)
        if block.is_last and turn % kinds == kinds - 1:
            yield block.images, tuple(totals)
            totals = []


def block_gradients(tape: Tape, block: Block) -> Rows:
    """The means over the draws that a block has of its parts.

    Raises:
        BegatError: one is not finite, with the image and the draw.
    """
    images = len(block.names)
    rows = part_gradients(tape, images, block.groups // images)
    check_finite(rows, tape, block)
    return rows


@torch.no_grad()
def image_losses(
    denoiser: Denoiser, sample: Sample, draws: DrawsOf, *, examples: int = MAX_EXAMPLES
) -> Float[Tensor, " image"]:
    """Every image's squared error of the predicted noise, mean over its draws and pixels."""
    found, one = [], draws(sample.number[:1])
    with recorded(denoiser.module, covered_layers(denoiser.module, norms=True)) as tape:
        examples = within_bounds(examples, tape, denoiser, one, sample.labels(slice(0, 1)))
    for some in blocks_of(sample, one.number, examples):
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
    examples: int = MAX_EXAMPLES,
) -> Float[Tensor, "part 1 parameter"]:
    """The mean of the images' gradients."""
    total = torch.zeros(parts, 1, width(layers), dtype=torch.float64, device=denoiser.like.device)
    stream = image_gradients(
        denoiser, layers, sample, draws, (measurement,), parts=parts, examples=examples
    )
    for _, (rows,) in stream:
        total += rows.sum(1, keepdim=True)
    return (total / len(sample)).to(denoiser.like)


def check_finite(rows: Rows, tape: Tape, block: Block) -> None:
    """Nothing, where all gradients are numbers.

    Raises:
        BegatError: one is not, with the image and the draw.
    """
    if rows.sum(2).isfinite().all() or rows.isfinite().all():  # a sum is cheaper to look at
        return
    wrong, draws = (~rows.isfinite()).any(2).any(0).nonzero(), block.draws
    image = int(wrong[0])
    of_image = slice(image * draws.number, (image + 1) * draws.number)
    sick = torch.zeros(draws.number, dtype=torch.bool)
    for layer in tape.layers:
        for values in tape.positions(layer):
            sick |= ~values[of_image].isfinite().flatten(1).all(1).cpu()
    draw = int(sick.int().argmax())
    raise BegatError(
        f"the gradient of image {block.names[image]} is not finite in draw "
        f"{block.run.start + draw} "
        f"(timestep {int(draws.timestep[image, draw])}): did the model diverge?"
    )
