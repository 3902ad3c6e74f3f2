"""Settings of a training: the optimiser's, and the batches', dropout's and snapshots'."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with warm-up, cosine decay, gradient clipping and a moving average of the weights.

    Attributes:
        num_steps: optimiser steps.
        learning_rate: the peak, reached after the warm-up.
        warmup_steps: steps of linear warm-up, before half a cosine down to zero.
        max_grad_norm: largest gradient norm of each model.
        weight_decay: AdamW's.
        ema_decay: decay of the exponential moving average of the weights; 0 = no average.
    """

    num_steps: int
    learning_rate: float
    warmup_steps: int
    max_grad_norm: float
    weight_decay: float = 0.0
    ema_decay: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a pack's training.

    Attributes:
        optimiser: the same for all models.
        batch_size: images per step and model.
        dropout: dropout probability in the residual blocks.
        num_snapshots: states of the weights recorded along the training.
    """

    optimiser: OptimiserConfig
    batch_size: int
    dropout: float = 0.0
    num_snapshots: int = 0
