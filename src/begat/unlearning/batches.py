"""Batches for unlearning: paired retain and forget images, a function of (seed, stream, step).

As in ``diffusion.training_batches``, nothing drawn depends on the pack, and a killed run resumes
where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.diffusion.packed_network import NoisedBatch
from begat.diffusion.pixels import to_model_range
from begat.diffusion.training_batches import BatchDraw, BatchSampler
from begat.rng.torch_generators import torch_generator
from begat.unlearning.targets import TargetInputs, select_candidate


@dataclass(frozen=True)
class ForgetGroup:
    """A group of images to unlearn.

    Attributes:
        name: for error messages.
        stream: the name of its random numbers. Groups that share one have the same retained
            images, timesteps and noise wherever possible: what affects all their models alike
            cancels when groups are compared.
        members: the images of the group.
        anchor_label: the label that replaces that of its images, for operators that need one;
            None: labels of random retained images.
    """

    name: str
    stream: str
    members: Bool[np.ndarray, " image"]
    anchor_label: int | None = None


@dataclass(frozen=True)
class ForgetRetainSampler:
    """Batches of retain and forget images for every group of a pack.

    Attributes:
        groups: the groups.
        sampler: batches of all images.
    """

    groups: Sequence[ForgetGroup]
    sampler: BatchSampler

    @cached_property
    def members(self) -> Bool[Tensor, "group image"]:
        """The images of each group."""
        return torch.from_numpy(np.stack([group.members for group in self.groups]))

    @property
    def device(self) -> torch.device:
        """The device of the batches."""
        return self.sampler.network.device

    @property
    def random_flip(self) -> bool:
        """Batches contain mirrored images."""
        return self.sampler.data.random_flip

    @cached_property
    def images(self) -> Float[Tensor, "candidate pixel"]:
        """All images that targets may use, mirrored ones included if batches contain them."""
        image = to_model_range(self.sampler.pixels.to(self.device).double())
        return (torch.cat([image, image.flip(-1)]) if self.random_flip else image).flatten(1)

    @cached_property
    def retained(self) -> Bool[Tensor, "group candidate"]:
        """Which of them are retained by each group."""
        return ~self.members.to(self.device).repeat(1, 1 + self.random_flip)

    def batch(self, step: int, purpose: str = "step") -> tuple[NoisedBatch, NoisedBatch]:
        """Retained images and forget images of every group, at the same timesteps.

        ``purpose`` separates the random numbers of batches that are not steps.
        """
        retain, forget = [], []
        for group, members in zip(self.groups, self.members, strict=True):
            stream, own = f"unlearned/{group.stream}/{purpose}", members.nonzero()[:, 0]
            others = self.sampler.draw(f"{stream}/retain", step, ~members)
            every_member = torch.ones(len(own), dtype=torch.bool)
            draw = self.sampler.draw(f"{stream}/forget", step, every_member)
            retain.append(others)
            forget.append(BatchDraw(own[draw.image], others.timestep, draw.noise, draw.flip))
        return self._noised(retain), self._noised(forget)

    def fisher_batch(self, step: int) -> NoisedBatch:
        """Images of the whole data set, each as the batch of one model of a pack.

        They belong to no group and hence to no group's stream.
        """
        everything = torch.ones(len(self.sampler.pixels), dtype=torch.bool)
        draw = self.sampler.draw("unlearned/fisher", step, everything)
        batch = self.sampler.noised([draw])  # [1, batch, ...], to become [batch, 1, ...]
        return NoisedBatch(
            batch.image.transpose(0, 1),
            batch.timestep.transpose(0, 1),
            batch.noise.transpose(0, 1),
            None if batch.label is None else batch.label.transpose(0, 1),
        )

    def target_inputs(self, step: int, forget: NoisedBatch) -> TargetInputs:
        """Data and random numbers for the targets of ``step``.

        A conditional target uses retained images of the forget image's own label if there are any,
        otherwise all retained ones.
        """
        size, shape = self.sampler.batch_size, forget.image.shape[1:]
        generators = [
            torch_generator(self.sampler.seed, "unlearned", group.stream, "target", step)
            for group in self.groups
        ]
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators])
        uniform = torch.stack([torch.rand(size, generator=g) for g in generators])
        noise, uniform = noise.to(forget.image), uniform.to(self.device)
        retained = self.retained[:, None].expand(-1, size, -1)
        if self.sampler.label is None or forget.label is None:
            return TargetInputs(noise, uniform, self.images, retained, None)
        label = self.sampler.label.to(self.device).repeat(1 + self.random_flip)
        same_label = retained & (label == forget.label[..., None])
        candidates = torch.where(same_label.any(-1, keepdim=True), same_label, retained)
        anchor_label = label[select_candidate(retained, uniform)]
        for number, group in enumerate(self.groups):
            if group.anchor_label is not None:
                anchor_label[number] = group.anchor_label
        return TargetInputs(noise, uniform, self.images, candidates, anchor_label)

    def _noised(self, draws: Sequence[BatchDraw]) -> NoisedBatch:
        index = torch.stack([draw.image for draw in draws])
        first = first_occurrence(index, [group.stream for group in self.groups])
        return replace(self.sampler.noised(draws), first_occurrence=first.to(self.device))


def first_occurrence(
    index: Int[Tensor, "group batch"], streams: Sequence[str]
) -> Int[Tensor, "group batch"]:
    """The flat index of the first identical image with the same noise, for each image.

    Groups of one stream have the same timestep, noise and mirroring in the same slot.
    """
    first: dict[tuple[str, int, int], int] = {}
    batch = index.shape[1]
    positions = [
        first.setdefault((stream, slot, image), group * batch + slot)
        for group, (stream, images) in enumerate(zip(streams, index.tolist(), strict=True))
        for slot, image in enumerate(images)
    ]
    return torch.tensor(positions).view_as(index)
