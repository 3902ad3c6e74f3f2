"""Trained models answering: the noise one of them, or any part of an ensemble, sees in an image."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.diffusion.bounds import BATCH as BATCH
from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.schedules import Prediction, Schedule, predicted_noise
from begat.diffusion.unet import unet
from begat.diffusion.unet_shapes import UNetConfig

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Predictor:
    """Models of one shape, evaluated one at a time on large batches.

    For large batches that is as fast as a pack, and it needs one model's activations only. All is
    computed in the dtype of the weights, so images and noise must have it too.
    """

    def __init__(
        self,
        rows: Float[Tensor, "model parameter"],
        config: UNetConfig,
        schedule: Schedule,
        prediction: Prediction,
        device: torch.device,
    ) -> None:
        self.config, self.schedule, self.prediction = config, schedule, prediction
        self.device, self.models = device, len(rows)
        self.rows = rows
        self.evaluated: Callable[[int], object] = lambda images: None  # called after each batch

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.rows.dtype

    @torch.no_grad()
    def noise(
        self,
        model: int,
        x: Float[Tensor, "batch channel y x"],
        t: Int[Tensor, " batch"],
        label: Int[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch channel y x"]:
        """The noise that one model predicts; tensors go to the device and come back."""
        ask = self.network(model)
        parts = []
        for start in range(0, len(x), BATCH):
            some = slice(start, start + BATCH)
            noisy, time = x[some].to(self.device), t[some].to(self.device)
            classes = None if label is None else label[some].to(self.device)
            output = ask(noisy, time, classes)
            parts.append(predicted_noise(self.schedule, self.prediction, output, noisy, time))
            self.evaluated(len(noisy))
        return torch.cat(parts).to(x.device)

    def network(self, model: int) -> Network:
        """One model as a function of noisy images, timesteps and labels, all on the device."""
        row = self.rows[model : model + 1].to(self.device, copy=True)  # every row begins aligned
        weights = unflatten(row, self.config)

        def ask(noisy: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
            classes = None if label is None else label[None]
            return unet(weights, self.config, noisy[None], time[None], classes)[0]

        return ask

    def mean_noise(
        self,
        x: Float[Tensor, "batch channel y x"],
        t: int,
        label: Int[Tensor, " batch"] | None,
        members: Bool[Tensor, "batch member"],
    ) -> Float[Tensor, "batch channel y x"]:
        """The mean prediction of those members that each image is asked of.

        A member is called on the whole batch where any image asks for it: of fewer images many
        processors compute the last bits differently, and what a member predicts for an image
        would depend on who else asks.
        """
        total, time = torch.zeros_like(x), torch.full((len(x),), t)
        for member in range(self.models):
            asked = members[:, member]
            if asked.any():
                found = self.noise(member, x, time, label)
                total += torch.where(asked[:, None, None, None], found, 0)
        return total / members.sum(1).view(-1, 1, 1, 1)
