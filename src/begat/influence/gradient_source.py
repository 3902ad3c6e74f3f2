"""Inputs of gradient computations: sets of images, and the network, layers and draws to use."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from begat.diffusion.denoisers import Denoiser
from begat.diffusion.draws import DrawSampler, unmirrored
from begat.diffusion.pixels import to_model_range
from begat.influence.blocks import MAX_EXAMPLES
from begat.influence.layers import Layer, tracked_layers


@dataclass(frozen=True)
class ImageSet:
    """Images to differentiate measurements of.

    Attributes:
        pixels: bytes, or floats in -1..1; anything that gives an array when sliced.
        label: their classes, if they have any.
        ids: numbers of the images, from which their draws are derived.
    """

    pixels: np.ndarray
    label: Int[np.ndarray, " image"] | None
    ids: Sequence[int]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.ids)

    def images(self, span: slice) -> Float[Tensor, "image channel y x"]:
        """Returns a slice of the images, in -1..1."""
        pixels = np.asarray(self.pixels[span])
        if pixels.dtype == np.uint8:
            pixels = to_model_range(pixels.astype(np.float32))
        return torch.tensor(pixels)

    def labels(self, span: slice) -> Int[Tensor, " image"] | None:
        """Returns their classes, if the images have any."""
        return None if self.label is None else torch.tensor(np.asarray(self.label[span])).long()

    def subset(self, indices: Sequence[int]) -> "ImageSet":
        """Returns the images at these indices, with their ids."""
        label = None if self.label is None else np.stack([self.label[i] for i in indices])
        pixels = np.stack([self.pixels[i] for i in indices])
        return ImageSet(pixels, label, [self.ids[i] for i in indices])


@dataclass(frozen=True)
class GradientSource:
    """What gradients are taken of and with respect to, but for the images and the measurement.

    Attributes:
        denoiser: the network.
        layers: the layers to differentiate in; ``Layer.named_parameters`` names a row's columns.
        draws: gives the draws of images.
        max_examples: noisy images per network call, for speed only; fewer where
            ``influence.blocks.bounded_examples`` says so.
    """

    denoiser: Denoiser
    layers: Sequence[Layer]
    draws: DrawSampler
    max_examples: int = MAX_EXAMPLES

    @property
    def unmirrored(self) -> "GradientSource":
        """The same without mirroring: for queries, whose loss is measured as they are."""
        return replace(self, draws=unmirrored(self.draws))

    def draws_per_image(self, images: ImageSet) -> int:
        """Returns the number of draws of each image."""
        return self.draws(images.ids[:1]).count


def gradient_source(
    denoiser: Denoiser, draws: DrawSampler, *, norms: bool, max_examples: int = MAX_EXAMPLES
) -> GradientSource:
    """Returns a source for all layers that can be tracked, with ``norms`` normalisation too."""
    layers = tracked_layers(denoiser.module, norms=norms)
    return GradientSource(denoiser, layers, draws, max_examples)
