"""Training a pack: K models, K batches, K separate optimisations in one set of tensors."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from begat.diffusion.parameter_rows import unflatten
from begat.diffusion.schedules import Prediction, Schedule, diffuse, training_target
from begat.diffusion.unet import Dropout, UNetConfig, unet


def learning_rate_at(step: int, base: float, warmup: int, steps: int) -> float:
    """Linear warm-up to ``base`` over ``warmup`` steps, then half a cosine down to zero."""
    if step < warmup:
        return base * (step + 1) / warmup
    return base * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def snapshot_steps(steps: int, snapshots: int) -> list[int]:
    """After how many steps snapshots are taken: the middles of equal stretches."""
    return [max(1, round((i + 0.5) * steps / snapshots)) for i in range(snapshots)]


def ema_decay_at(step: int, decay: float) -> float:
    """The moving average's decay, smaller at first so that the start is forgotten."""
    return min(decay, (1 + step) / (10 + step))


def clipped(
    gradient: Float[Tensor, "model parameter"], limit: float
) -> Float[Tensor, "model parameter"]:
    """The gradient with each model's own norm clipped to ``limit``, as ``clip_grad_norm_`` does."""
    norm = gradient.norm(dim=1, keepdim=True)
    return gradient * (limit / (norm + 1e-6)).clamp(max=1)


class PackOptimiser:
    """Weights on the move, one row per model: the weights, their average, AdamW's moments.

    The optimiser is elementwise and clipping is by row, so every model moves as it would alone.
    """

    def __init__(
        self,
        weights: Float[Tensor, "model parameter"],
        *,
        steps: int,
        learning_rate: float,
        warmup: int,
        weight_decay: float,
        clip: float,
        ema: float,
    ) -> None:
        self.rate = (learning_rate, warmup, steps)
        self.clip, self.decay, self.steps_done = clip, ema, 0
        self.weights = weights.detach().clone().requires_grad_()
        self.average = weights.detach().clone()
        self.optimiser = torch.optim.AdamW(
            [self.weights], lr=learning_rate, weight_decay=weight_decay, fused=True
        )

    @torch.no_grad()
    def move(
        self,
        gradient: Float[Tensor, "model parameter"],
        still: Bool[Tensor, "model #parameter"] | None = None,
    ) -> None:
        """Take one step along ``gradient``, with all weights but those that are to stay."""
        before = None if still is None else (self.weights.clone(), self.average.clone())
        self.weights.grad = clipped(gradient, self.clip)
        self.optimiser.param_groups[0]["lr"] = learning_rate_at(self.steps_done, *self.rate)
        self.optimiser.step()
        self.average.lerp_(self.weights, 1 - ema_decay_at(self.steps_done, self.decay))
        if still is not None and before is not None:
            self.weights.copy_(torch.where(still, before[0], self.weights))
            self.average.copy_(torch.where(still, before[1], self.average))
        self.steps_done += 1

    def state(self) -> dict[str, Float[Tensor, "model parameter"]]:
        """Everything the next step depends on."""
        moments = self.optimiser.state[self.weights]
        still = torch.zeros_like(self.average)
        return {
            "weights": self.weights.detach(),
            "ema_weights": self.average,
            "exp_avg": moments.get("exp_avg", still),
            "exp_avg_sq": moments.get("exp_avg_sq", still),
        }

    def resume(self, state: Mapping[str, Float[Tensor, "model parameter"]], step: int) -> None:
        """Continue from ``state`` as if ``step`` steps had just been taken."""
        device = self.weights.device
        with torch.no_grad():
            self.weights.copy_(state["weights"])
        self.average.copy_(state["ema_weights"])
        self.optimiser.state[self.weights] = {
            "step": torch.tensor(float(step), device=device),
            "exp_avg": state["exp_avg"].to(device, copy=True),
            "exp_avg_sq": state["exp_avg_sq"].to(device, copy=True),
        }
        self.steps_done = step


class PackTraining(PackOptimiser):
    """A pack in training: its loss is a sum over models, so none knows of the others."""

    def __init__(
        self,
        config: UNetConfig,
        schedule: Schedule,
        weights: Float[Tensor, "model parameter"],
        *,
        prediction: Prediction,
        steps: int,
        learning_rate: float,
        warmup: int,
        weight_decay: float,
        clip: float,
        ema: float,
    ) -> None:
        super().__init__(
            weights,
            steps=steps,
            learning_rate=learning_rate,
            warmup=warmup,
            weight_decay=weight_decay,
            clip=clip,
            ema=ema,
        )
        self.config, self.schedule, self.prediction = config, schedule, prediction

    def step(
        self,
        image: Float[Tensor, "model batch channel y x"],
        timestep: Int[Tensor, "model batch"],
        noise: Float[Tensor, "model batch channel y x"],
        label: Int[Tensor, "model batch"] | None = None,
        dropout: Dropout | None = None,
    ) -> Float[Tensor, " model"]:
        """Take one step; returns each model's loss before it (mean over batch and pixels)."""
        noisy = diffuse(self.schedule, image, timestep, noise)
        target = training_target(self.schedule, self.prediction, image, timestep, noise)
        weights = unflatten(self.weights, self.config)
        output = unet(weights, self.config, noisy, timestep, label, dropout)
        loss = (output - target).square().mean(dim=(1, 2, 3, 4))
        (gradient,) = torch.autograd.grad(loss.sum(), [self.weights])
        self.move(gradient)
        return loss.detach()
