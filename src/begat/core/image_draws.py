"""The draws (timestep, noise, mirroring) under which the gradients of images are taken.

Sharing one list between all images, and between training images and queries, makes most of the
draws' noise common to both sides of a product; with the mean gradient taken off the query's side
(``stages.scores_influence``) 16 shared draws are worth 64 of each image's own (tried on digits).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.core.draws import several_draws
from begat.core.noise import torch_generator
from begat.errors import BegatError

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Draws:
    """Several draws for each of some images."""

    timestep: Int[Tensor, "image draw"]
    noise: Float[Tensor, "image draw channel y x"]
    flip: Bool[Tensor, "image draw"]

    @property
    def number(self) -> int:
        """Draws per image."""
        return self.timestep.shape[1]

    def in_parts(self, parts: int) -> "Draws":
        """The same draws, ordered so that equal runs of them are ``parts`` independent lists.

        An antithetic pair stays in one part, and neighbouring strata of time go to different
        parts, so that each part is stratified as well.

        Raises:
            BegatError: the pairs cannot be dealt out evenly.
        """
        if parts == 1 or parts == self.number:
            return self
        if self.number % (2 * parts):
            raise BegatError(
                f"{self.number} draws cannot be split into {parts} parts of whole antithetic pairs:"
                f" expected a multiple of {2 * parts}"
            )
        order = torch.arange(self.number).view(-1, parts, 2).transpose(0, 1).flatten()
        return Draws(self.timestep[:, order], self.noise[:, order], self.flip[:, order])


DrawsOf = Callable[[Sequence[int]], Draws]


def _draws(
    generators: Iterable[torch.Generator], draws: int, timesteps: int, shape: Shape, flip: bool
) -> Draws:
    """Images' draws; with ``flip`` half of them mirrored, whole fours of draws in turn."""
    timestep, noise = several_draws(generators, draws, timesteps, shape)
    mirrored = (torch.arange(draws) // 4 % 2 == 1) & flip
    return Draws(timestep, noise, mirrored.expand(len(timestep), -1))


def common_draws(
    seed: int, stage: str, draws: int, timesteps: int, shape: Shape, *, flip: bool = False
) -> DrawsOf:
    """Gives all images the same draws, which belong to (root seed, stage)."""
    one = _draws([torch_generator(seed, stage, "draws")], draws, timesteps, shape, flip)

    def of(images: Sequence[int]) -> Draws:
        n = len(images)
        return Draws(
            one.timestep.expand(n, -1),
            one.noise.expand(n, *one.noise.shape[1:]),
            one.flip.expand(n, -1),
        )

    return of


def own_draws(
    seed: int, stage: str, draws: int, timesteps: int, shape: Shape, *, flip: bool = False
) -> DrawsOf:
    """Gives each image draws of its own, which belong to (root seed, stage, image)."""

    def of(images: Sequence[int]) -> Draws:
        generators = (torch_generator(seed, stage, "draws", int(i)) for i in images)
        return _draws(generators, draws, timesteps, shape, flip)

    return of
