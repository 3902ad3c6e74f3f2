"""Gradients of measurements by single images, each the mean over the image's draws.

Examples pass through the network in blocks whose memory is bounded (``influence.blocks``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from begat.diffusion.bounds import MAX_GRADIENT_NUMBERS
from begat.diffusion.denoisers import MEASUREMENTS, DenoiserOutput, evaluate
from begat.errors import BegatError
from begat.influence.blocks import ExampleBlock, bounded_examples, draw_slices, image_slices
from begat.influence.gradient_source import GradientSource, ImageSet
from begat.influence.layers import row_width, tracked_layers
from begat.influence.tape_gradients import Rows, part_gradients
from begat.influence.tapes import Tape, recording

OutputGradientFn = Callable[[ExampleBlock, DenoiserOutput], Tensor]


def backward_passes(
    source: GradientSource,
    images: ImageSet,
    output_gradients: Sequence[OutputGradientFn],
    parts: int = 1,
) -> Iterator[tuple[ExampleBlock, Tape]]:
    """Yields blocks of examples, each with a tape after a backward pass, one per output gradient.

    One forward pass serves all ``output_gradients``. The draws are split into ``parts`` independent
    lists.
    """
    denoiser, first = source.denoiser, source.draws(images.ids[:1])
    with recording(denoiser.module, source.layers) as tape:
        limits = source.max_examples, tape, denoiser, first, images.labels(slice(0, 1))
        max_examples = bounded_examples(*limits)
        for span in image_slices(images, first.count, max_examples):
            ids = images.ids[span]
            draws, pixels, labels = source.draws(ids), images.images(span), images.labels(span)
            for draw_span in draw_slices(first.count, parts, max_examples):
                block = ExampleBlock(span, ids, draws.split(parts), draw_span, parts)
                tape.clear()
                output = evaluate(denoiser, pixels, labels, block.draws)
                for i, output_gradient in enumerate(output_gradients, 1):
                    retain_graph = i < len(output_gradients)
                    gradient = output_gradient(block, output)
                    tape.backward(output.output, gradient, retain_graph=retain_graph)
                    yield block, tape


def measurement_gradients(measurements: Sequence[str]) -> list[OutputGradientFn]:
    """Returns the output gradients of measurements in ``diffusion.denoisers.MEASUREMENTS``."""
    return [lambda _, output, m=m: MEASUREMENTS[m](output) for m in measurements]  # type: ignore[misc]


def image_gradients(
    source: GradientSource,
    images: ImageSet,
    measurements: Sequence[str] = ("noise",),
    *,
    parts: int = 1,
) -> Iterator[tuple[slice, tuple[Rows, ...]]]:
    """Yields blocks of images with their gradients, ``[part, image, parameter]`` per measurement.

    Args:
        source: the network, its layers and the images' draws.
        images: the images.
        measurements: names from ``diffusion.denoisers.MEASUREMENTS``; one forward pass serves all.
        parts: the draws are split into so many independent lists, with a gradient for each; the
            mean over parts is the gradient by all draws.

    Raises:
        BegatError: a gradient is not finite, with the image and the draw.
    """
    source = _bounded(source, images, parts * len(measurements))
    totals: list[Rows] = []
    stream = backward_passes(source, images, measurement_gradients(measurements), parts)
    for turn, (block, tape) in enumerate(stream):
        measurement = turn % len(measurements)
        rows = block_gradients(tape, block)
        if block.is_first and block.is_last:
            totals.append(rows)
        else:
            if block.is_first:
                totals.append(rows.new_zeros(parts, *rows.shape[1:]))
            totals[measurement][block.part_span].add_(rows, alpha=block.share)
        if block.is_last and measurement == len(measurements) - 1:
            yield block.images, tuple(totals)
            totals = []


def _bounded(source: GradientSource, images: ImageSet, rows_per_image: int) -> GradientSource:
    """Returns the source with blocks of at most ``MAX_GRADIENT_NUMBERS`` elements of gradients."""
    max_images = max(1, MAX_GRADIENT_NUMBERS // (row_width(source.layers) * rows_per_image))
    max_examples = min(source.max_examples, max_images * source.draws_per_image(images))
    return replace(source, max_examples=max_examples)


def block_gradients(tape: Tape, block: ExampleBlock) -> Rows:
    """Returns the means over the draws that a block has of its parts.

    Raises:
        BegatError: one is not finite, with the image and the draw.
    """
    images = len(block.ids)
    rows = part_gradients(tape, images, block.groups // images)
    check_finite(rows, tape, block)
    return rows


@torch.no_grad()
def image_losses(source: GradientSource, images: ImageSet) -> Float[Tensor, " image"]:
    """Returns every image's squared error of the predicted noise, mean over draws and pixels."""
    denoiser, first, losses = source.denoiser, source.draws(images.ids[:1]), []
    with recording(denoiser.module, tracked_layers(denoiser.module, norms=True)) as tape:
        limits = source.max_examples, tape, denoiser, first, images.labels(slice(0, 1))
        max_examples = bounded_examples(*limits)
    for span in image_slices(images, first.count, max_examples):
        draws = source.draws(images.ids[span])
        output = evaluate(denoiser, images.images(span), images.labels(span), draws)
        error = (output.predicted - output.noise).square().flatten(1).mean(1)
        losses.append(error.view(-1, draws.count).mean(1).cpu())
    return torch.cat(losses)


def mean_gradient(
    source: GradientSource, images: ImageSet, measurement: str, *, parts: int = 1
) -> Float[Tensor, "part 1 parameter"]:
    """Returns the mean of the images' gradients."""
    like = source.denoiser.like
    total = like.new_zeros(parts, 1, row_width(source.layers), dtype=torch.float64)
    for _, (rows,) in image_gradients(source, images, (measurement,), parts=parts):
        total += rows.sum(1, keepdim=True)
    return (total / len(images)).to(like)


def check_finite(rows: Rows, tape: Tape, block: ExampleBlock) -> None:
    """Raise BegatError where a gradient is not finite, with the image and the draw."""
    if rows.sum(2).isfinite().all() or rows.isfinite().all():  # the sum alone is cheaper
        return
    wrong, draws = (~rows.isfinite()).any(2).any(0).nonzero(), block.draws
    image = int(wrong[0])
    examples = slice(image * draws.count, (image + 1) * draws.count)
    not_finite = torch.zeros(draws.count, dtype=torch.bool)
    for layer in tape.layers:
        for matrix in tape.inputs_and_gradients(layer):
            not_finite |= ~matrix[examples].isfinite().flatten(1).all(1).cpu()
    draw = int(not_finite.int().argmax())
    raise BegatError(
        f"the gradient of image {block.ids[image]} is not finite in draw {block.span.start + draw} "
        f"(timestep {int(draws.timestep[image, draw])}): did the model diverge?"
    )
