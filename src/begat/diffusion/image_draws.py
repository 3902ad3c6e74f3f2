"""The draws (timestep, noise, mirroring) under which the gradients of images are taken.

Sharing one list between all images, and between training images and queries, makes most of the
draws' noise common to both sides of a product; with the mean gradient taken off the query's side
(``influence.scores``) 16 shared draws are worth 64 of each image's own (tried on digits).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.diffusion.draws import several_draws
from begat.errors import BegatError
from begat.rng.torch_generators import torch_generator

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

    def run(self, some: slice) -> "Draws":
        """Some of every image's draws."""
        return Draws(self.timestep[:, some], self.noise[:, some], self.flip[:, some])

    def in_parts(self, parts: int) -> "Draws":
        """The same draws, ordered so that equal runs of them are ``parts`` independent lists.

        An antithetic pair stays in one part, and neighbouring strata of time go to different
        parts, so that each part is stratified as well, and half mirrored where all are.

        Raises:
            BegatError: the pairs cannot be dealt out evenly.
        """
        if parts == 1 or parts == self.number:
            return self
        multiple = (4 if self.flip.any() else 2) * parts
        if self.number % multiple:
            raise BegatError(
                f"{self.number} draws cannot be split into {parts} parts of whole antithetic pairs"
                f"{', half of them mirrored' if self.flip.any() else ''}: expected a multiple of "
                f"{multiple}"
            )
        order = torch.arange(self.number).view(-1, parts, 2).transpose(0, 1).flatten()
        return Draws(self.timestep[:, order], self.noise[:, order], self.flip[:, order])


DrawsOf = Callable[[Sequence[int]], Draws]


def _draws(
    generators: Iterable[torch.Generator], draws: int, timesteps: int, shape: Shape, flip: bool
) -> Draws:
    """Images' draws; with ``flip`` half of them, in every stretch of time, mirrored."""
    generators = list(generators)
    timestep, noise = several_draws(generators, draws, timesteps, shape)
    mirrored = torch.zeros(timestep.shape, dtype=torch.bool)
    if flip:
        mirrored = torch.stack([_mirrored(generator, draws) for generator in generators])
    return Draws(timestep, noise, mirrored)


def _mirrored(generator: torch.Generator, draws: int) -> Bool[Tensor, " draw"]:
    """Which draws are mirrored: of four antithetic pairs the outer or the inner two, by a coin.

    Pairs stay whole and neighbours in time differ, also within either of ``in_parts`` two parts, so
    that mirroring goes neither with time nor with noise. (Mirroring one of each pair instead, which
    any number of draws allows, leaves up to 1.8 times the variance in gradients: the pair's noise
    no longer cancels; tried on digits.)

    Raises:
        BegatError: the pairs cannot be halved.
    """
    if draws % 4:
        raise BegatError(
            f"half of the draws' antithetic pairs are mirrored: expected a multiple of 4, found "
            f"{draws}"
        )
    outer = torch.rand(-(-draws // 8), generator=generator) < 0.5
    pairs = torch.stack([outer, ~outer, ~outer, outer], 1).flatten()[: draws // 2]
    return pairs.repeat_interleave(2)


def unmirrored(draws: DrawsOf) -> DrawsOf:
    """The same draws without mirroring: for queries, whose loss is measured as they are."""

    def of(images: Sequence[int]) -> Draws:
        found = draws(images)
        return replace(found, flip=torch.zeros_like(found.flip))

    return of


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
