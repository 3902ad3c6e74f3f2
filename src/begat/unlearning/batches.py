"""What forgetting models see at each step: retained beside forgotten images, one pair at a time.

As in ``diffusion.training_batches`` all of it is a pure function of (root seed, stream, step) and the group, so
nothing drawn depends on the pack, and a killed run resumes where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from begat.diffusion.training_batches import Batch, batch_at
from begat.rng.torch_generators import torch_generator
from begat.unlearning.targets import picked
from begat.unlearning.training import Knowledge, Noised


@dataclass(frozen=True)
class Pairs:
    """The images of every group of a pack, and how to draw from them.

    Attributes:
        pixels: all images.
        label: their classes, for a conditional model.
        member_of: which images each group has.
        streams: the name of each group's randomness.
        anchor: the label in the place of each group's, None for that of a random retained image.
        seed: the root seed.
        timesteps: how many there are.
        batch: images of each kind.
        flip: mirror half of them.
        like: a tensor of the device and dtype in which batches are wanted.
    """

    pixels: UInt8[Tensor, "image channel y x"]
    label: Int[Tensor, " image"] | None
    member_of: Bool[Tensor, "group image"]
    streams: Sequence[str]
    anchor: Int[Tensor, " group"] | None
    seed: int
    timesteps: int
    batch: int
    flip: bool
    like: Tensor

    @cached_property
    def images(self) -> Float[Tensor, "candidate pixel"]:
        """All images that a target may look at, mirrored ones included if models see them."""
        image = self.pixels.to(self.like.device).double() / 127.5 - 1
        return (torch.cat([image, image.flip(-1)]) if self.flip else image).flatten(1)

    @cached_property
    def retained(self) -> Bool[Tensor, "group candidate"]:
        """Which of them each group leaves."""
        return ~self.member_of.to(self.like.device).repeat(1, 2 if self.flip else 1)

    def at(self, step: int, use: str = "step") -> tuple[Noised, Noised]:
        """Every group's retained images at ``step``, and its own in turn, at the same timesteps."""
        retain, forget = [], []
        for stream, members in zip(self.streams, self.member_of, strict=True):
            name, own = f"unlearned/{stream}/{use}", members.nonzero()[:, 0]
            kept = batch_at(self.seed, f"{name}/retain", step, ~members, *self._how())
            everyone = torch.ones(len(own), dtype=torch.bool)
            gone = batch_at(self.seed, f"{name}/forget", step, everyone, *self._how())
            retain.append(kept)
            forget.append(Batch(own[gone.image], kept.timestep, gone.noise, gone.flip))
        return self._noised(retain, self.streams), self._noised(forget, self.streams)

    def single(self, step: int) -> Noised:
        """Images of the whole set at ``step``, each as a batch of its own, for one model's sake.

        They belong to no group, hence to no stream.
        """
        everyone = torch.ones(len(self.pixels)).bool()
        drawn = batch_at(self.seed, "unlearned/fisher", step, everyone, *self._how())
        one = self._noised([drawn], ["fisher"])
        return Noised(
            one.image.transpose(0, 1),
            one.timestep.transpose(0, 1),
            one.noise.transpose(0, 1),
            None if one.label is None else one.label.transpose(0, 1),
            one.first.transpose(0, 1),
        )

    def known(self, step: int, forget: Noised) -> Knowledge:
        """What targets may look at at ``step``.

        A conditional target looks at retained images of the forgotten image's own label, as far
        as there are any, otherwise at all retained ones.
        """
        shape = forget.image.shape[1:]
        generators = [
            torch_generator(self.seed, "unlearned", stream, "target", step)
            for stream in self.streams
        ]
        fresh = torch.stack([torch.randn(shape, generator=g) for g in generators])
        pick = torch.stack([torch.rand(self.batch, generator=g) for g in generators])
        fresh, pick = fresh.to(self.like), pick.to(self.like.device)
        retained = self.retained[:, None].expand(-1, self.batch, -1)
        candidates, other = retained, None
        if self.label is not None and forget.label is not None:
            label = self.label.to(self.like.device).repeat(2 if self.flip else 1)
            alike = retained & (label == forget.label[..., None])
            candidates = torch.where(alike.any(-1, keepdim=True), alike, retained)
            other = label[picked(retained, pick)]
            if self.anchor is not None:
                other = self.anchor.to(self.like.device)[:, None].expand_as(other)
        return Knowledge(fresh, pick, self.images, candidates, other)

    def _how(self) -> tuple[int, int, tuple[int, int, int], bool]:
        _, channels, height, width = self.pixels.shape
        return self.batch, self.timesteps, (channels, height, width), self.flip

    def _noised(self, batches: Sequence[Batch], streams: Sequence[str]) -> Noised:
        device, chosen = self.like.device, torch.stack([b.image for b in batches])
        mirrored = torch.stack([b.flip for b in batches])[..., None, None, None]
        image = self.pixels[chosen].to(self.like.dtype) / 127.5 - 1
        image = torch.where(mirrored, image.flip(-1), image)
        return Noised(
            image.to(device),
            torch.stack([b.timestep for b in batches]).to(device),
            torch.stack([b.noise for b in batches]).to(self.like),
            None if self.label is None else self.label[chosen].to(device),
            first_met(chosen, streams).to(device),
        )


def first_met(
    chosen: Int[Tensor, "group batch"], streams: Sequence[str]
) -> Int[Tensor, "group batch"]:
    """Where, counting through groups and slots, each image was first met with the same noise.

    Groups of one stream have the same timestep, noise and mirroring in the same slot.
    """
    seen: dict[tuple[str, int, int], int] = {}
    count = chosen.shape[1]
    places = [
        seen.setdefault((stream, slot, image), group * count + slot)
        for group, (stream, images) in enumerate(zip(streams, chosen.tolist(), strict=True))
        for slot, image in enumerate(images)
    ]
    return torch.tensor(places).view_as(chosen)
