"""Optimisation of a pack: K models, K batches, K independent AdamW optimisers in one tensor."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from begat.diffusion.packed_network import NoisedBatch, PackedNetwork
from begat.diffusion.training_config import OptimiserConfig
from begat.diffusion.unet_layers import Dropout

Rows = Float[Tensor, "model parameter"]


def learning_rate_at(step: int, learning_rate: float, warmup_steps: int, num_steps: int) -> float:
    """The learning rate: linear warm-up to its peak, then half a cosine down to zero."""
    if step < warmup_steps:
        return learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    return learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def snapshot_steps(num_steps: int, num_snapshots: int) -> list[int]:
    """The numbers of steps after which snapshots are taken: the middles of equal intervals."""
    return [max(1, round((i + 0.5) * num_steps / num_snapshots)) for i in range(num_snapshots)]


def ema_decay_at(step: int, ema_decay: float) -> float:
    """The decay of the moving average, smaller at first: initial weights must not remain in it."""
    return min(ema_decay, (1 + step) / (10 + step))


def clip_gradient_norms(gradient: Rows, max_grad_norm: float) -> Rows:
    """The gradient with the norm of each model's row clipped, as ``clip_grad_norm_`` does."""
    norm = gradient.norm(dim=1, keepdim=True)
    return gradient * (max_grad_norm / (norm + 1e-6)).clamp(max=1)


class PackOptimiser:
    """The weights of a pack, one row per model, with their moving average and AdamW's moments.

    AdamW is elementwise and clipping is by row, so every model is updated as it would be alone.
    """

    def __init__(self, weights: Rows, config: OptimiserConfig) -> None:
        self.config, self.steps_done = config, 0
        self.weights = weights.detach().clone().requires_grad_()
        self.average = weights.detach().clone()
        self.adamw = torch.optim.AdamW(
            [self.weights], lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    @torch.no_grad()
    def update(
        self, gradient: Rows, frozen: Bool[Tensor, "model #parameter"] | None = None
    ) -> None:
        """Take one step along ``gradient``; frozen weights and their averages keep their bits."""
        before = None if frozen is None else (self.weights.clone(), self.average.clone())
        self.weights.grad = clip_gradient_norms(gradient, self.config.max_grad_norm)
        self.adamw.param_groups[0]["lr"] = learning_rate_at(
            self.steps_done,
            self.config.learning_rate,
            self.config.warmup_steps,
            self.config.num_steps,
        )
        self.adamw.step()
        decay = ema_decay_at(self.steps_done, self.config.ema_decay)
        self.average.lerp_(self.weights, 1 - decay)
        if frozen is not None and before is not None:
            self.weights.copy_(torch.where(frozen, before[0], self.weights))
            self.average.copy_(torch.where(frozen, before[1], self.average))
        self.steps_done += 1

    def state(self) -> dict[str, Rows]:
        """Everything that the next step depends on, but for the number of steps done."""
        moments = self.adamw.state[self.weights]
        zeros = torch.zeros_like(self.average)
        return {
            "weights": self.weights.detach(),
            "ema_weights": self.average,
            "exp_avg": moments.get("exp_avg", zeros),
            "exp_avg_sq": moments.get("exp_avg_sq", zeros),
        }

    def resume(self, state: Mapping[str, Rows], step: int) -> None:
        """Continue from ``state`` as if ``step`` steps had just been taken."""
        device = self.weights.device
        with torch.no_grad():
            self.weights.copy_(state["weights"])
        self.average.copy_(state["ema_weights"])
        self.adamw.state[self.weights] = {
            "step": torch.tensor(float(step), device=device),
            "exp_avg": state["exp_avg"].to(device, copy=True),
            "exp_avg_sq": state["exp_avg_sq"].to(device, copy=True),
        }
        self.steps_done = step


class PackTraining(PackOptimiser):
    """A pack in training; its loss is a sum over models, so their gradients are independent."""

    def __init__(self, network: PackedNetwork, weights: Rows, config: OptimiserConfig) -> None:
        super().__init__(weights, config)
        self.network = network

    def step(self, batch: NoisedBatch, dropout: Dropout | None = None) -> Float[Tensor, " model"]:
        """Take one step; returns each model's loss before it (mean over batch and pixels)."""
        loss = self.network.loss(self.weights, batch, dropout)
        (gradient,) = torch.autograd.grad(loss.sum(), [self.weights])
        self.update(gradient)
        return loss.detach()
