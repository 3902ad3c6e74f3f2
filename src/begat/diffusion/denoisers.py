"""A network to be looked into, what it answers, and what may be measured in its answer.

The network is any torch module, called as its owner calls it. Each measurement is given by its
gradient in the network's output, one per example. Errors are means over the D = C H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from begat.diffusion.image_draws import Draws
from begat.diffusion.noise_predictors import Forward, NoisePredictor
from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.schedules import Prediction, Schedule, diffuse, training_target
from begat.diffusion.unet_shapes import UNetConfig

Images = Float[Tensor, "example channel y x"]
Ask = Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]


def ask_diffusers(
    module: nn.Module, x: Images, t: Int[Tensor, " example"], label: Tensor | None
) -> Images:
    """What a ``diffusers.UNet2DModel`` answers."""
    return module(x, t, class_labels=label).sample


@dataclass(frozen=True)
class Denoiser:
    """A trained network with everything needed to ask it; ``conditional``: it takes labels."""

    module: nn.Module
    schedule: Schedule
    prediction: Prediction
    conditional: bool = False
    ask: Ask = ask_diffusers

    @property
    def like(self) -> Tensor:
        """A tensor of the device and dtype in which the network computes."""
        return next(self.module.parameters())

    def with_module(self, module: nn.Module) -> "Denoiser":
        """The same, with other weights."""
        return replace(self, module=module)


def unet_denoiser(
    row: Float[Tensor, " parameter"],
    config: UNetConfig,
    schedule: Schedule,
    prediction: Prediction,
    device: torch.device,
) -> Denoiser:
    """A model of this package, from its row of weights, as a ``diffusers.UNet2DModel``."""
    from diffusers import UNet2DModel  # takes seconds

    network: Any = UNet2DModel(**config.diffusers_arguments())
    network.load_state_dict({name: w[0] for name, w in unflatten(row[None], config).items()})
    network = nn.Module.to(
        network, device, row.dtype
    )  # diffusers' own warns where nothing is wrong
    return Denoiser(network.eval(), schedule, prediction, bool(config.classes))


@dataclass(frozen=True)
class Answer:
    """A network's output on noisy images, beside what it should have been.

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


def answer(
    denoiser: Denoiser,
    image: Float[Tensor, "image channel y x"],
    label: Int[Tensor, " image"] | None,
    draws: Draws,
) -> Answer:
    """The network's output on every draw of every image; a draw varies fastest."""
    like = denoiser.like
    t, noise = draws.timestep.flatten(), draws.noise.flatten(0, 1).to(like)
    clean = image.to(like).repeat_interleave(draws.number, 0)
    mirrored = draws.flip.flatten().to(like.device)[:, None, None, None]
    clean = torch.where(mirrored, clean.flip(-1), clean) if draws.flip.any() else clean
    noisy = diffuse(denoiser.schedule, clean, t, noise)
    target = training_target(denoiser.schedule, denoiser.prediction, clean, t, noise)
    classes = None
    if denoiser.conditional and label is not None:
        classes = label.to(like.device).repeat_interleave(draws.number, 0)
    output = denoiser.ask(denoiser.module, noisy, t.to(like.device), classes)
    scale = torch.ones(1, 1, 1, 1).to(like)
    if denoiser.prediction == "v_prediction":
        scale = denoiser.schedule.scales(t, noisy)[0]
    return Answer(output, target, noise, scale)


def training(found: Answer) -> Images:
    """Gradient of the loss the network was trained on: squared error in its own target."""
    return 2 * (found.output.detach() - found.target) / found.dimensions


def noise(found: Answer) -> Images:
    """Gradient of the squared error of the predicted noise, as this package measures."""
    return found.scale**2 * training(found)


def square(found: Answer) -> Images:
    """Gradient of the mean square of the predicted noise (D-TRAK, arXiv 2311.00500)."""
    return 2 * found.scale * found.predicted / found.dimensions


def mean(found: Answer) -> Images:
    """Gradient of the mean of the predicted noise (DAS, arXiv 2410.18639)."""
    return (found.scale / found.dimensions).expand_as(found.output)


MEASUREMENTS: dict[str, Callable[[Answer], Images]] = {
    "training": training,
    "noise": noise,
    "square": square,
    "mean": mean,
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

    def forward(self, model: int) -> Forward:
        """Returns the network."""
        return lambda noisy, time, label: self.denoiser.ask(
            self.denoiser.module, noisy, time, label
        )
