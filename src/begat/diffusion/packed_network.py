"""Networks of one architecture, evaluated and differentiated as a pack: a row of weights each."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.schedules import (
    Prediction,
    Schedule,
    diffuse,
    predicted_noise,
    training_target,
)
from begat.diffusion.unet import unet
from begat.diffusion.unet_layers import Dropout
from begat.diffusion.unet_shapes import UNetConfig

Rows = Float[Tensor, "model parameter"]
Images = Float[Tensor, "model batch channel y x"]
Timesteps = Int[Tensor, "model batch"]
Labels = Int[Tensor, "model batch"] | None


@dataclass(frozen=True)
class NoisedBatch:
    """One batch of images per model, with the timesteps and the noise of the forward process.

    Attributes:
        image: in -1..1.
        timestep: of each image.
        noise: of each image.
        label: the class of each image, None for an unconditional network.
        first_occurrence: flat index, over models and images, of the first identical
            (image, timestep, noise) in the pack; None: all are taken to be distinct.
    """

    image: Images
    timestep: Timesteps
    noise: Images
    label: Labels = None
    first_occurrence: Int[Tensor, "model batch"] | None = None


@dataclass(frozen=True)
class PackedNetwork:
    """The network that all models of a pack share, but for their weights.

    Attributes:
        config: the architecture.
        schedule: the forward process.
        prediction_type: what the network outputs, the noise or v.
        device: where to compute.
        dtype: in which to compute; what is drawn is the same for all.
    """

    config: UNetConfig
    schedule: Schedule
    prediction_type: Prediction
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32

    def output(
        self,
        rows: Rows,
        noisy: Images,
        timestep: Timesteps,
        label: Labels,
        dropout: Dropout | None = None,
    ) -> Images:
        """The output of each model on its own batch: the noise, or v."""
        weights = unflatten(rows, self.config)
        return unet(weights, self.config, noisy, timestep, label, dropout)

    def predict_noise(
        self, rows: Rows, noisy: Images, timestep: Timesteps, label: Labels
    ) -> Images:
        """The noise that each model predicts on its own batch."""
        output = self.output(rows, noisy, timestep, label)
        return predicted_noise(self.schedule, self.prediction_type, output, noisy, timestep)

    def loss(
        self, rows: Rows, batch: NoisedBatch, dropout: Dropout | None = None
    ) -> Float[Tensor, " model"]:
        """The training loss of each model on its own batch, mean over images and pixels."""
        inputs = batch.image, batch.timestep, batch.noise
        noisy = diffuse(self.schedule, *inputs)
        target = training_target(self.schedule, self.prediction_type, *inputs)
        output = self.output(rows, noisy, batch.timestep, batch.label, dropout)
        return mean_square(output - target)

    def gradient(self, rows: Rows, batch: NoisedBatch) -> Rows:
        """The gradient of the training loss of each model on its own batch.

        The gradient of the noise loss would not fit the curvature of a model that predicts v: the
        two losses differ by a factor that depends on time.
        """
        leaf = rows.detach().requires_grad_()
        return torch.autograd.grad(self.loss(leaf, batch).sum(), [leaf])[0]


def mean_square(error: Images) -> Float[Tensor, " model"]:
    """The mean square over all axes but the model's."""
    return error.square().mean(dim=(1, 2, 3, 4))
