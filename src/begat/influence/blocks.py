"""Blocks of noisy images that pass through a network together, bounded in memory.

An *example* is one image under one draw. A backward pass leaves behind the inputs and the output
gradients of all tracked layers (``influence.tapes.Tape``), whose size grows with the image, the
network and the number of examples. The first two are counted once, with one example; the third is
chosen.
"""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from begat.diffusion.bounds import MAX_EXAMPLES as MAX_EXAMPLES
from begat.diffusion.bounds import MAX_TAPE_NUMBERS as MAX_TAPE_NUMBERS
from begat.diffusion.denoisers import Denoiser, evaluate
from begat.diffusion.draws import Draws
from begat.influence.tapes import Tape


@dataclass(frozen=True)
class ExampleBlock:
    """The examples of one network call: images under all their draws, or one under a few draws.

    Attributes:
        images: consecutive images of an image set.
        ids: theirs.
        all_draws: all draws of these images, ``parts`` independent lists of equal length.
        span: which of them are in the block: whole parts, or a slice of one part.
        parts: their number.
    """

    images: slice
    ids: Sequence[int]
    all_draws: Draws
    span: slice
    parts: int = 1

    @property
    def draws(self) -> Draws:
        """The draws in the block."""
        return self.all_draws.select(self.span)

    @property
    def part_span(self) -> slice:
        """The parts that the block has draws of."""
        length = self.all_draws.count // self.parts
        return slice(self.span.start // length, -(-self.span.stop // length))

    @property
    def groups(self) -> int:
        """The number of pairs of an image and a part, each with equally many draws in the block."""
        return len(self.ids) * (self.part_span.stop - self.part_span.start)

    @property
    def share(self) -> float:
        """The share of its parts' draws in the block: the weight of its means in theirs."""
        examples = len(self.ids) * (self.span.stop - self.span.start)
        return examples * self.parts / (self.groups * self.all_draws.count)

    @property
    def is_first(self) -> bool:
        """Whether there is no block before it with the same images."""
        return self.span.start == 0

    @property
    def is_last(self) -> bool:
        """Whether there is no block after it with the same images."""
        return self.span.stop == self.all_draws.count


def image_slices(images: Sized, draws: int, max_examples: int = MAX_EXAMPLES) -> Iterator[slice]:
    """Yields consecutive images, as many as make ``max_examples`` examples; at least one."""
    step = max(1, max_examples // draws)
    for start in range(0, len(images), step):
        yield slice(start, min(start + step, len(images)))


def draw_slices(draws: int, parts: int, max_examples: int) -> Iterator[slice]:
    """Yields consecutive draws, at most ``max_examples``: whole parts, or a slice of one part."""
    length = draws // parts
    within = max_examples < length
    step = max_examples if within else max_examples // length * length
    for start_of_part in range(0, draws, length if within else draws):
        end = start_of_part + length if within else draws
        for start in range(start_of_part, end, step):
            yield slice(start, min(start + step, end))


def bounded_examples(
    max_examples: int,
    tape: Tape,
    denoiser: Denoiser,
    draws: Draws,
    label: Int[Tensor, " image"] | None,
) -> int:
    """Returns ``max_examples``, or as many as put ``MAX_TAPE_NUMBERS`` on a tape; at least 1.

    The elements of one example are counted in a pass of an empty image under the first of its
    draws. The tape is cleared.
    """
    one = draws.select(slice(0, 1))
    image = torch.zeros(1, *one.noise.shape[2:])
    tape.clear()
    output = evaluate(denoiser, image, label, one).output
    tape.backward(output, torch.zeros_like(output))
    per_example = tape.elements
    tape.clear()
    return max(1, min(max_examples, MAX_TAPE_NUMBERS // max(1, per_example)))
