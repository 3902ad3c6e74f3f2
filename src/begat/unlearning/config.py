"""Settings of unlearning that all operators share."""

from dataclasses import dataclass, field

from begat.diffusion.training_config import OptimiserConfig
from begat.errors import BegatError
from begat.unlearning.operator_base import Operator
from begat.unlearning.operators import RetainOnly

CHOICES: dict[str, tuple[str, ...]] = {
    "retain_loss": ("distil", "denoise"),
    "loss_combination": ("sum", "convex"),
    "error_space": ("clean", "noise", "velocity"),
    "stopping_rule": ("steps", "drift", "rise"),
    "init": ("full", "newton"),
}


@dataclass(frozen=True)
class UnlearningConfig:
    """How groups are unlearned.

    Attributes:
        optimiser: of the fine-tuning, with the largest number of steps.
        batch_size: images per step, of retained and of forget images each.
        operator: the operator with its own parameters.
        retain_loss: on retained images: ``distil`` the full model's prediction, or ``denoise``.
        forget_weight: lambda, the weight of the forget term.
        loss_combination: ``sum``, retain + lambda forget, or ``convex``,
            (1 - lambda) retain + lambda forget.
        error_space: whose squared error the distance from a target is: that of the clean image,
            of the noise or of v (velocity); they differ by a weight over time.
        stopping_rule: ``steps``, after all steps; or once ``stopping_threshold`` is reached by the
            ``drift`` on retained images or by the ``rise`` of the loss on forget images.
        stopping_threshold: that drift or rise: mean squared noise error per pixel.
        init: initial weights: those of the ``full`` model, or a ``newton`` step from them.
        init_damping: for ``newton``: damping of the curvature, a multiple of each block's mean
            eigenvalue.
    """

    optimiser: OptimiserConfig
    batch_size: int
    operator: Operator = field(default_factory=RetainOnly)
    retain_loss: str = "denoise"
    forget_weight: float = 1.0
    loss_combination: str = "sum"
    error_space: str = "clean"
    stopping_rule: str = "steps"
    stopping_threshold: float = 0.0
    init: str = "full"
    init_damping: float = 100.0

    def __post_init__(self) -> None:
        """Raise BegatError if a name is unknown or values exclude one another."""
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise BegatError(f"{name}: expected one of {', '.join(choices)}, found {value!r}")
        if self.loss_combination == "convex" and not 0 <= self.forget_weight <= 1:
            raise BegatError(
                "forget_weight: expected 0..1 with loss_combination=convex, "
                f"found {self.forget_weight}"
            )
        if self.stopping_rule != "steps" and not self.stopping_threshold > 0:
            raise BegatError(
                "stopping_threshold: expected more than 0 with "
                f"stopping_rule={self.stopping_rule}, found {self.stopping_threshold}"
            )

    @property
    def curvature_damping(self) -> float | None:
        """The damping of the inverse curvature of the full model, None if none is needed."""
        if self.operator.needs_curvature:
            return self.operator.curvature_damping
        return self.init_damping if self.init == "newton" else None

    @property
    def num_steps(self) -> int:
        """The largest number of optimiser steps."""
        return self.optimiser.num_steps if self.operator.needs_steps else 0
