"""Noise predictors: the noise that trained models predict, singly or as the mean of an ensemble."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.diffusion.bounds import BATCH as BATCH
from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.schedules import Prediction, Schedule, predicted_noise
from begat.diffusion.unet import unet
from begat.diffusion.unet_shapes import UNetConfig

Forward = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # of noisy images, timesteps, labels


class NoisePredictor(ABC):
    """Models of one architecture, evaluated one at a time on large batches.

    On large batches that is as fast as a pack, and holds the activations of one model only.

    Attributes:
        models: their number.
        config: the size of the images, and whether there are classes.
        schedule: the forward process.
        prediction_type: what the networks output, the noise or v.
        device: where they are evaluated.
        dtype: of the weights; images and noise must have it too.
        progress: called after each network call, with the number of its images.
    """

    def __init__(
        self,
        models: int,
        config: UNetConfig,
        schedule: Schedule,
        prediction_type: Prediction,
        device: torch.device,
    ) -> None:
        self.models, self.config, self.device = models, config, device
        self.schedule, self.prediction_type = schedule, prediction_type
        self.progress: Callable[[int], object] = lambda images: None

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""

    @abstractmethod
    def forward(self, model: int) -> Forward:
        """Returns one model as a function of tensors on the device."""

    @torch.no_grad()
    def predict(
        self,
        model: int,
        x: Float[Tensor, "batch channel y x"],
        t: Int[Tensor, " batch"],
        label: Int[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch channel y x"]:
        """Returns the noise that one model predicts, on the device of ``x``."""
        forward, parts = self.forward(model), []
        for start in range(0, len(x), BATCH):
            batch = slice(start, start + BATCH)
            noisy, time = x[batch].to(self.device), t[batch].to(self.device)
            classes = None if label is None else label[batch].to(self.device)
            output = forward(noisy, time, classes)
            parts.append(predicted_noise(self.schedule, self.prediction_type, output, noisy, time))
            self.progress(len(noisy))
        return torch.cat(parts).to(x.device)

    def predict_mean(
        self,
        x: Float[Tensor, "batch channel y x"],
        t: int,
        label: Int[Tensor, " batch"] | None,
        members: Bool[Tensor, "batch member"],
    ) -> Float[Tensor, "batch channel y x"]:
        """Returns the mean over each image's own subset of models, ``members``.

        A model that is in the subset of any image is evaluated on the whole batch: on fewer images
        many processors compute the last bits differently, and what a model predicts for an image
        would depend on the subsets of the others.
        """
        total, time = torch.zeros_like(x), torch.full((len(x),), t)
        for member in range(self.models):
            included = members[:, member]
            if included.any():
                noise = self.predict(member, x, time, label)
                total += torch.where(included[:, None, None, None], noise, 0)
        return total / members.sum(1).view(-1, 1, 1, 1)


class PackPredictor(NoisePredictor):
    """Models of this package, from one row of weights each."""

    def __init__(
        self,
        rows: Float[Tensor, "model parameter"],
        config: UNetConfig,
        schedule: Schedule,
        prediction_type: Prediction,
        device: torch.device,
    ) -> None:
        super().__init__(len(rows), config, schedule, prediction_type, device)
        self.rows = rows

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the rows."""
        return self.rows.dtype

    def forward(self, model: int) -> Forward:
        """Returns the U-Net with the weights of one row."""
        row = self.rows[model : model + 1].to(self.device, copy=True)  # every row begins aligned
        weights = unflatten(row, self.config)

        def forward(noisy: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
            classes = None if label is None else label[None]
            return unet(weights, self.config, noisy[None], time[None], classes)[0]

        return forward
