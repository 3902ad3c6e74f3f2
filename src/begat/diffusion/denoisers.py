"""A denoising network, its output on noised images, and the output gradient of each measurement.

The network is any torch module, called by a function of its own. A measurement is defined by its
gradient in the network's output, one per example. Errors are means over the D = C H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from begat.diffusion.draws import Draws
from begat.diffusion.noise_predictors import Forward as PredictorForward
from begat.diffusion.noise_predictors import NoisePredictor
from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.schedules import Prediction, Schedule, diffuse, training_target
from begat.diffusion.unet_shapes import UNetConfig
from begat.errors import BegatError

Images = Float[Tensor, "example channel y x"]
Forward = Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]


def forward_diffusers(
    module: nn.Module, x: Images, t: Int[Tensor, " example"], label: Tensor | None
) -> Images:
    """Returns the output of a ``diffusers.UNet2DModel``."""
    return module(x, t, class_labels=label).sample


@dataclass(frozen=True)
class Denoiser:
    """A trained network with its schedule; ``conditional``: it takes labels."""

    module: nn.Module
    schedule: Schedule
    prediction: Prediction
    conditional: bool = False
    forward: Forward = forward_diffusers

    @property
    def like(self) -> Tensor:
        """A tensor of the device and dtype in which the network computes."""
        return next(self.module.parameters())


def unet_denoiser(
    row: Float[Tensor, " parameter"],
    config: UNetConfig,
    schedule: Schedule,
    prediction: Prediction,
    device: torch.device,
) -> Denoiser:
    """Returns a model of this package as a ``diffusers.UNet2DModel``, from its row of weights."""
    from diffusers import UNet2DModel  # takes seconds

    network: Any = UNet2DModel(**config.diffusers_arguments())
    network.load_state_dict({name: w[0] for name, w in unflatten(row[None], config).items()})
    network = nn.Module.to(network, device, row.dtype)  # diffusers' own warns without cause
    return Denoiser(network.eval(), schedule, prediction, bool(config.classes))


def pipeline_denoiser(pipeline: Any) -> Denoiser:
    """Returns the network and the schedule of a diffusers pipeline with a ``UNet2DModel``.

    Raises:
        BegatError: the network predicts neither noise nor v.
    """
    prediction = pipeline.scheduler.config.prediction_type
    if prediction not in get_args(Prediction):
        expected = " or ".join(get_args(Prediction))
        raise BegatError(f"prediction_type: expected {expected}, found {prediction}")
    conditional = pipeline.unet.config.num_class_embeds is not None
    schedule = Schedule(pipeline.scheduler.alphas_cumprod.double())
    return Denoiser(pipeline.unet.eval(), schedule, prediction, conditional)


@dataclass(frozen=True)
class DenoiserOutput:
    """A network's output on noisy images, with its target.

    ``scale`` is d(predicted noise)/d(output): 1 for a network that predicts noise, sqrt(alpha_bar)
    for one that predicts v.
    """

    output: Images
    target: Images
    noise: Images
    scale: Float[Tensor, "#example 1 1 1"]

    @property
    def predicted(self) -> Images:
        """The predicted noise."""
        return self.noise + self.scale * (self.output.detach() - self.target)

    @property
    def dimensions(self) -> int:
        """D, the number of pixels and channels."""
        return self.output[0].numel()


def evaluate(
    denoiser: Denoiser,
    image: Float[Tensor, "image channel y x"],
    label: Int[Tensor, " image"] | None,
    draws: Draws,
) -> DenoiserOutput:
    """Returns the network's output on every draw of every image; draws vary fastest."""
    like = denoiser.like
    t, noise = draws.timestep.flatten(), draws.noise.flatten(0, 1).to(like)
    clean = image.to(like).repeat_interleave(draws.count, 0)
    mirrored = draws.flip.flatten().to(like.device)[:, None, None, None]
    clean = torch.where(mirrored, clean.flip(-1), clean) if draws.flip.any() else clean
    noisy = diffuse(denoiser.schedule, clean, t, noise)
    target = training_target(denoiser.schedule, denoiser.prediction, clean, t, noise)
    classes = None
    if denoiser.conditional and label is not None:
        classes = label.to(like.device).repeat_interleave(draws.count, 0)
    output = denoiser.forward(denoiser.module, noisy, t.to(like.device), classes)
    scale = torch.ones(1, 1, 1, 1).to(like)
    if denoiser.prediction == "v_prediction":
        scale = denoiser.schedule.scales(t, noisy)[0]
    return DenoiserOutput(output, target, noise, scale)


def training_loss_gradient(output: DenoiserOutput) -> Images:
    """Returns the gradient of the loss of training: squared error in the network's own target."""
    return 2 * (output.output.detach() - output.target) / output.dimensions


def noise_loss_gradient(output: DenoiserOutput) -> Images:
    """Returns the gradient of the squared error of the predicted noise, which is measured."""
    return output.scale**2 * training_loss_gradient(output)


def square_noise_gradient(output: DenoiserOutput) -> Images:
    """Returns the gradient of the mean square of the predicted noise (D-TRAK, arXiv 2311.00500)."""
    return 2 * output.scale * output.predicted / output.dimensions


def mean_noise_gradient(output: DenoiserOutput) -> Images:
    """Returns the gradient of the mean of the predicted noise (DAS, arXiv 2410.18639)."""
    return (output.scale / output.dimensions).expand_as(output.output)


MEASUREMENTS: dict[str, Callable[[DenoiserOutput], Images]] = {
    "training": training_loss_gradient,
    "noise": noise_loss_gradient,
    "square": square_noise_gradient,
    "mean": mean_noise_gradient,
}


class DenoiserPredictor(NoisePredictor):
    """One network of any architecture, such as that of an external pipeline."""

    def __init__(self, denoiser: Denoiser, config: UNetConfig, device: torch.device) -> None:
        """``config`` gives the size of the images and whether there are classes."""
        super().__init__(1, config, denoiser.schedule, denoiser.prediction, device)
        self.denoiser = denoiser

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the network computes."""
        return self.denoiser.like.dtype

    def forward(self, model: int) -> PredictorForward:
        """Returns the network."""
        return lambda noisy, time, label: self.denoiser.forward(
            self.denoiser.module, noisy, time, label
        )
