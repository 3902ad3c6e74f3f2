"""What the gradient methods read: samples of images and queries, and draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from begat.diffusion.image_draws import DrawsOf, common_draws, own_draws
from begat.execution.context import JobContext
from begat.execution.networks import labels_of
from begat.execution.results import concatenated
from begat.influence.gradients import Sample


@dataclass(frozen=True)
class Watched(Sample):
    """A sample that moves a bar on as its images are taken."""

    bar: tqdm

    def images(self, some: slice) -> Float[Tensor, "image channel y x"]:
        """Some of the images, in -1..1."""
        found = super().images(some)
        self.bar.update(len(found))
        return found

    def only(self, chosen: Sequence[int]) -> Sample:
        """A smaller sample that moves the same bar."""
        few = super().only(chosen)
        return Watched(few.pixels, few.label, few.number, self.bar)


def training_sample(
    context: JobContext, own: Bool[np.ndarray, " image"] | None, bar: tqdm
) -> Sample:
    """All training images, or those that ``own`` marks; numbers are places among all.

    ``bar`` counts how many have been taken, in all passes over them.
    """
    pixels = context.input("images")["pixels"]
    found = Sample(pixels, labels_of(context), range(len(pixels)))
    if own is not None and not own.all():
        found = found.only(np.flatnonzero(own).tolist())
    return Watched(found.pixels, found.label, found.number, bar)


def query_sample(context: JobContext) -> Sample:
    """All queries; their numbers follow on those of the training images."""
    pixels, first = concatenated(context, "queries", "pixels"), len(context.spec.dataset.names)
    conditional = context.params.unet.class_conditional
    label = concatenated(context, "queries", "label") if conditional else None
    return Sample(pixels, label, range(first, first + len(pixels)))


def draws_of(
    context: JobContext, draws: int, *, shared: bool = True, mirrored: bool = True
) -> DrawsOf:
    """The draws under which this job looks at images, ``mirrored`` as they were in training.

    For queries see ``diffusion.image_draws.unmirrored``.
    """
    image = context.params.images
    shape = (image.channels, image.size, image.size)
    return (common_draws if shared else own_draws)(
        context.seed,
        context.job.stage,
        draws,
        context.params.diffusion.num_train_timesteps,
        shape,
        flip=mirrored and context.params.models.random_flip,
    )
