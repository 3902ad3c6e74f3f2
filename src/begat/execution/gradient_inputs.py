"""Inputs of the gradient methods: sets of images and queries, and draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from begat.diffusion.draws import DrawSampler, common_draws, per_image_draws
from begat.execution.context import JobContext
from begat.execution.networks import labels_of
from begat.execution.results import concatenated
from begat.influence.gradient_source import ImageSet


@dataclass(frozen=True)
class ProgressImageSet(ImageSet):
    """A set of images that advances a progress bar as its images are read."""

    bar: tqdm

    def images(self, span: slice) -> Float[Tensor, "image channel y x"]:
        """Returns a slice of the images, in -1..1."""
        images = super().images(span)
        self.bar.update(len(images))
        return images

    def subset(self, indices: Sequence[int]) -> ImageSet:
        """Returns the images at these indices, which advance the same bar."""
        subset = super().subset(indices)
        return ProgressImageSet(subset.pixels, subset.label, subset.ids, self.bar)


def training_image_set(
    context: JobContext, train_mask: Bool[np.ndarray, " image"] | None, bar: tqdm
) -> ImageSet:
    """Returns all training images, or those of the mask; ids are indices among all.

    ``bar`` counts the images read, in all passes over them.
    """
    pixels = context.input("images")["pixels"]
    images = ImageSet(pixels, labels_of(context), range(len(pixels)))
    if train_mask is not None and not train_mask.all():
        images = images.subset(np.flatnonzero(train_mask).tolist())
    return ProgressImageSet(images.pixels, images.label, images.ids, bar)


def query_image_set(context: JobContext) -> ImageSet:
    """Returns all queries; their ids follow those of the training images."""
    pixels, first = concatenated(context, "queries", "pixels"), len(context.spec.dataset.names)
    conditional = context.params.unet.class_conditional
    label = concatenated(context, "queries", "label") if conditional else None
    return ImageSet(pixels, label, range(first, first + len(pixels)))


def draws_of(
    context: JobContext, draws: int, *, shared: bool = True, mirrored: bool = True
) -> DrawSampler:
    """Returns this job's draws for gradients, ``mirrored`` as they were in training.

    For queries see ``diffusion.draws.unmirrored``.
    """
    image = context.params.images
    shape = (image.channels, image.size, image.size)
    return (common_draws if shared else per_image_draws)(
        context.seed,
        context.job.stage,
        draws,
        context.params.diffusion.num_train_timesteps,
        shape,
        flip=mirrored and context.params.models.random_flip,
    )
