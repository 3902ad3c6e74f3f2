"""Training batches as a pure function of (root seed, stream, step).

A *stream* names the random numbers of a model. Two models with one stream and different training
sets get the same images, timesteps and noise at the same step wherever both training sets have
them: a slot whose image is not in a model's training set is refilled from that set. So
leave-one-group-out models are paired with the full model, a killed run resumes where it was, and
nothing drawn depends on the pack.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from begat.diffusion.packed_network import NoisedBatch, PackedNetwork
from begat.diffusion.pixels import to_model_range
from begat.rng.torch_generators import torch_generator


@dataclass(frozen=True)
class TrainingImages:
    """All images that models may be trained on.

    Attributes:
        pixels: in 0..255.
        label: the class of each image for a conditional network, else None.
        random_flip: mirror half of the images of a batch.
    """

    pixels: UInt8[np.ndarray, "image channel y x"]
    label: Int[np.ndarray, " image"] | None = None
    random_flip: bool = False


@dataclass(frozen=True)
class BatchDraw:
    """One model's batch: indices of its images, their timesteps and noise, which are mirrored."""

    image: Int[Tensor, " batch"]
    timestep: Int[Tensor, " batch"]
    noise: Float[Tensor, "batch channel y x"]
    flip: Bool[Tensor, " batch"]


@dataclass(frozen=True)
class SlotDraws:
    """One step's random numbers of a stream; they do not depend on the model.

    Attributes:
        timestep, noise, flip: as in ``BatchDraw``, of the batch's slots.
        refill: a uniform number in [0, 1) that picks a replacement from the model's training set.
    """

    timestep: Int[Tensor, " batch"]
    noise: Float[Tensor, "batch channel y x"]
    flip: Bool[Tensor, " batch"]
    refill: Float[Tensor, " batch"]


@lru_cache(maxsize=4)  # the models of a pack that share a stream are drawn for one after another
def _slot_draws(
    seed: int,
    stream: str,
    step: int,
    batch_size: int,
    num_timesteps: int,
    shape: tuple[int, int, int],
) -> SlotDraws:
    generator = torch_generator(seed, stream, "step", step)
    return SlotDraws(
        torch.randint(num_timesteps, (batch_size,), generator=generator),
        torch.randn(batch_size, *shape, generator=generator),
        torch.rand(batch_size, generator=generator) < 0.5,
        torch.rand(batch_size, generator=generator, dtype=torch.float64),
    )


@lru_cache(maxsize=256)
def _permutation(seed: int, stream: str, epoch: int, images: int) -> Int[Tensor, " image"]:
    return torch.randperm(images, generator=torch_generator(seed, stream, "epoch", epoch))


@dataclass(frozen=True)
class BatchSampler:
    """Batches of a data set for the models of a pack.

    Attributes:
        data: the images.
        network: its forward process decides the timesteps; its device and dtype, the batches'.
        seed: the root seed.
        batch_size: images per model and step.
    """

    data: TrainingImages
    network: PackedNetwork
    seed: int
    batch_size: int

    @cached_property
    def pixels(self) -> UInt8[Tensor, "image channel y x"]:
        """The images as a tensor."""
        return torch.from_numpy(self.data.pixels)

    @cached_property
    def label(self) -> Int[Tensor, " image"] | None:
        """The classes as a tensor."""
        return None if self.data.label is None else torch.from_numpy(self.data.label).long()

    def draw(self, stream: str, step: int, train_mask: Bool[Tensor, " image"]) -> BatchDraw:
        """The batch of a model at ``step``.

        The stream walks through fresh permutations of *all* images; a slot that falls on an image
        outside the training set takes a uniformly drawn one from it. Every image of a training set
        is thereby drawn equally often in expectation, and exactly once per epoch if it holds all.
        """
        images, size = len(train_mask), self.batch_size
        _, channels, height, width = self.pixels.shape
        slots = _slot_draws(
            self.seed,
            stream,
            step,
            size,
            self.network.schedule.timesteps,
            (channels, height, width),
        )
        position = torch.arange(step * size, (step + 1) * size)
        epochs = position // images
        index = torch.cat(
            [
                _permutation(self.seed, stream, epoch, images)[position[epochs == epoch] % images]
                for epoch in range(int(epochs[0]), int(epochs[-1]) + 1)
            ]
        )
        allowed = train_mask.nonzero()[:, 0]
        refilled = allowed[(slots.refill * len(allowed)).long()]
        index = torch.where(train_mask[index], index, refilled)
        return BatchDraw(index, slots.timestep, slots.noise, slots.flip & self.data.random_flip)

    def noised(self, draws: Sequence[BatchDraw]) -> NoisedBatch:
        """The batches of a pack, one draw per model, on the network's device and in its dtype."""
        device, dtype = self.network.device, self.network.dtype
        index = torch.stack([draw.image for draw in draws])
        flip = torch.stack([draw.flip for draw in draws])[..., None, None, None]
        image = to_model_range(self.pixels[index].to(dtype))
        return NoisedBatch(
            torch.where(flip, image.flip(-1), image).to(device),
            torch.stack([draw.timestep for draw in draws]).to(device),
            torch.stack([draw.noise for draw in draws]).to(device, dtype),
            None if self.label is None else self.label[index].to(device),
        )
