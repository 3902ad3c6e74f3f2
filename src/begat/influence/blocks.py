"""Blocks of noisy images that go through a network together, bounded in memory.

An *example* is one image under one draw. A backward pass leaves behind the inputs and the output
gradients of all covered layers (``influence.tapes.Tape``), whose size grows with the image, the network
and the number of examples. The first two are counted once, with one example; the third is chosen.
"""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from begat.diffusion.bounds import MAX_EXAMPLES as MAX_EXAMPLES
from begat.diffusion.bounds import MAX_TAPE_NUMBERS
from begat.diffusion.denoisers import Denoiser, answer
from begat.diffusion.image_draws import Draws
from begat.influence.tapes import Tape


@dataclass(frozen=True)
class Block:
    """The examples of one network call: images under all their draws, or one image under a run.

    Attributes:
        images: consecutive ones of a sample.
        names: theirs.
        all_draws: all the draws of these images.
        run: which of them belong to the block. They are whole parts, or lie in one part.
        parts: how many independent lists of equal length the draws are.
    """

    images: slice
    names: Sequence[int]
    all_draws: Draws
    run: slice
    parts: int = 1

    @property
    def draws(self) -> Draws:
        """The draws in the block."""
        return self.all_draws.run(self.run)

    @property
    def parts_held(self) -> slice:
        """The parts that the block has draws of."""
        length = self.all_draws.number // self.parts
        return slice(self.run.start // length, -(-self.run.stop // length))

    @property
    def groups(self) -> int:
        """How many pairs of an image and a part, which the block has equally many draws of."""
        return len(self.names) * (self.parts_held.stop - self.parts_held.start)

    @property
    def share(self) -> float:
        """How much of its parts' draws the block has: what its means count in those by all."""
        draws = len(self.names) * (self.run.stop - self.run.start)
        return draws * self.parts / (self.groups * self.all_draws.number)

    @property
    def is_first(self) -> bool:
        """There is no block before it with the same images."""
        return self.run.start == 0

    @property
    def is_last(self) -> bool:
        """There is no block after it with the same images."""
        return self.run.stop == self.all_draws.number


def blocks_of(sample: Sized, draws: int, examples: int = MAX_EXAMPLES) -> Iterator[slice]:
    """Consecutive images, at least one, as many as make ``examples`` examples by all draws."""
    several = max(1, examples // draws)
    for start in range(0, len(sample), several):
        yield slice(start, min(start + several, len(sample)))


def runs_of(draws: int, parts: int, examples: int) -> Iterator[slice]:
    """Consecutive draws of an image, at most ``examples``: whole parts, or within one part."""
    length = draws // parts
    within = examples < length
    step = examples if within else examples // length * length
    for part in range(0, draws, length if within else draws):
        stop = part + length if within else draws
        for start in range(part, stop, step):
            yield slice(start, min(start + step, stop))


def within_bounds(
    examples: int,
    tape: Tape,
    denoiser: Denoiser,
    draws: Draws,
    label: Int[Tensor, " image"] | None,
) -> int:
    """At most so many examples, and no more than put ``MAX_TAPE_NUMBERS`` on a tape; at least 1.

    What one puts there is counted in a pass of an empty image under the first of its draws. The
    tape is left clear.
    """
    one = draws.run(slice(0, 1))
    image = torch.zeros(1, *one.noise.shape[2:])
    tape.clear()
    output = answer(denoiser, image, label, one).output
    tape.backward(output, torch.zeros_like(output))
    of_one = tape.numbers
    tape.clear()
    return max(1, min(examples, MAX_TAPE_NUMBERS // max(1, of_one)))
