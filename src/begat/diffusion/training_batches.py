"""What a model sees at each training step, as a pure function of (stream, step).

A model's *stream* names its randomness. Two models with one stream and different training sets
see the same images, timesteps and noise at the same step wherever both may: slots whose image a
model must not see are refilled from its own set. So leave-one-group-out models are paired with
the full model, a killed run resumes where it was, and nothing drawn depends on the pack.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.rng.torch_generators import torch_generator


@dataclass(frozen=True)
class Batch:
    """One model's batch: which images, how noised, which of them mirrored."""

    image: Int[Tensor, " batch"]
    timestep: Int[Tensor, " batch"]
    noise: Float[Tensor, "batch channel y x"]
    flip: Bool[Tensor, " batch"]


@dataclass(frozen=True)
class Slots:
    """What a stream holds for one step, whoever looks: places for images, and their noise.

    Attributes:
        refill: which of its own images a model takes where it must not see the place's, 0..1.
    """

    timestep: Int[Tensor, " batch"]
    noise: Float[Tensor, "batch channel y x"]
    mirrored: Bool[Tensor, " batch"]
    refill: Float[Tensor, " batch"]


@lru_cache(maxsize=4)  # models of a pack that share a stream ask one after the other
def _slots(
    root: int, stream: str, step: int, size: int, timesteps: int, shape: tuple[int, int, int]
) -> Slots:
    generator = torch_generator(root, stream, "step", step)
    return Slots(
        torch.randint(timesteps, (size,), generator=generator),
        torch.randn(size, *shape, generator=generator),
        torch.rand(size, generator=generator) < 0.5,
        torch.rand(size, generator=generator, dtype=torch.float64),
    )


@lru_cache(maxsize=256)
def _order(root: int, stream: str, epoch: int, images: int) -> Int[Tensor, " image"]:
    return torch.randperm(images, generator=torch_generator(root, stream, "epoch", epoch))


def batch_at(
    root: int,
    stream: str,
    step: int,
    trains_on: Bool[Tensor, " image"],
    size: int,
    timesteps: int,
    shape: tuple[int, int, int],
    flip: bool,
) -> Batch:
    """The batch of ``size`` that a model sees at ``step``.

    The stream walks through fresh permutations of *all* images; a slot that falls on an image the
    model must not see takes a uniformly drawn one it may see. Every image a model trains on is
    thereby seen equally often in expectation, and exactly once per epoch by a model that sees all.
    """
    images = len(trains_on)
    drawn = _slots(root, stream, step, size, timesteps, shape)
    slots = torch.arange(step * size, (step + 1) * size)
    epochs = slots // images
    image = torch.cat(
        [
            _order(root, stream, epoch, images)[slots[epochs == epoch] % images]
            for epoch in range(int(epochs[0]), int(epochs[-1]) + 1)
        ]
    )
    allowed = trains_on.nonzero()[:, 0]
    image = torch.where(trains_on[image], image, allowed[(drawn.refill * len(allowed)).long()])
    return Batch(image, drawn.timestep, drawn.noise, drawn.mirrored & flip)
