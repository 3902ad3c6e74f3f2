"""Unlearning operators: one class each, with its parameters, chosen by name from one table.

This module imports no torch, so that plans and parameter files can be checked without it; an
operator's loss terms come from ``unlearning.terms`` and ``unlearning.targets`` when it is used.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from begat.config.fields import MAX_COUNT, param
from begat.errors import BegatError, brief
from begat.unlearning.operator_base import Operator, TargetOperator

if TYPE_CHECKING:
    from begat.unlearning.targets import Target
    from begat.unlearning.terms import Terms


@dataclass(frozen=True)
class PosteriorMean(TargetOperator):
    """Predict as the ideal denoiser of all retained images (ReTrack, arXiv 2509.13007, in full)."""

    name: ClassVar[str] = "posterior_mean"

    def target(self) -> "Target":
        """The noise implied by the posterior mean of the retained images."""
        from begat.unlearning.targets import posterior_mean

        return posterior_mean


@dataclass(frozen=True)
class Retrack(TargetOperator):
    """Predict as the ideal denoiser of its nearest retained images (ReTrack, arXiv 2509.13007)."""

    name: ClassVar[str] = "retrack"
    num_neighbours: int = param(
        "likeliest retained images that make the target", default=10, ge=1, le=MAX_COUNT
    )

    def target(self) -> "Target":
        """The noise implied by the truncated posterior mean."""
        from begat.unlearning.targets import retrack

        return partial(retrack, num_neighbours=self.num_neighbours)


@dataclass(frozen=True)
class Anchor(TargetOperator):
    """Predict as the full model does under another label (GUDA, arXiv 2601.22651)."""

    name: ClassVar[str] = "anchor"
    needs_labels: ClassVar[bool] = True

    def target(self) -> "Target":
        """The full model's prediction under the anchor label."""
        from begat.unlearning.targets import anchor

        return anchor


@dataclass(frozen=True)
class Esd(TargetOperator):
    """Predict as the full model guided away from the label (ESD, arXiv 2303.07345)."""

    name: ClassVar[str] = "esd"
    needs_labels: ClassVar[bool] = True
    guidance_strength: float = param(
        "negative guidance, a multiple of the difference between the two labels' predictions",
        default=1.0,
        ge=0,
        le=1_000,
    )

    def target(self) -> "Target":
        """The full model's prediction with negative guidance."""
        from begat.unlearning.targets import esd

        return partial(esd, guidance_strength=self.guidance_strength)


@dataclass(frozen=True)
class Swap(TargetOperator):
    """Predict the noise implied by a random retained image (SalUn, arXiv 2310.12508, unmasked)."""

    name: ClassVar[str] = "swap"

    def target(self) -> "Target":
        """The noise implied by one random retained image."""
        from begat.unlearning.targets import swap

        return swap


@dataclass(frozen=True)
class Noise(TargetOperator):
    """Predict fresh Gaussian noise, as EraseDiff (arXiv 2401.05779) does with uniform noise."""

    name: ClassVar[str] = "noise"

    def target(self) -> "Target":
        """Fresh noise."""
        from begat.unlearning.targets import noise

        return noise


@dataclass(frozen=True)
class Ascent(Operator):
    """Climb the denoising loss on forget images up to a maximum (NegGrad, arXiv 1911.04933)."""

    name: ClassVar[str] = "ascent"
    max_forget_loss: float = param(
        "loss on forget images above which ascent stops", default=1.0, gt=0, le=1_000
    )

    def terms(self) -> "Terms":
        """Minus the denoising loss on forget images, clamped."""
        from begat.unlearning.terms import Terms, ascent

        return Terms(partial(ascent, max_forget_loss=self.max_forget_loss))


@dataclass(frozen=True)
class Siss(Operator):
    """Subtract the forget loss, both losses sampled from a mixture (SISS, arXiv 2503.01034)."""

    name: ClassVar[str] = "siss"
    forget_strength: float = param(
        "multiple of the forget loss that is subtracted", default=1.0, ge=0, le=1_000
    )

    def terms(self) -> "Terms":
        """The two importance-sampled denoising losses."""
        from begat.unlearning.terms import Terms, siss_forget, siss_retain

        forget = partial(siss_forget, forget_strength=self.forget_strength)
        return Terms(forget, siss_retain)


@dataclass(frozen=True)
class Salun(Swap):
    """Predict as swap, updating the weights of the largest gradients (SalUn, arXiv 2310.12508)."""

    name: ClassVar[str] = "salun"
    mask_fraction: float = param(
        "fraction of the weights that may be updated", default=0.5, gt=0, le=1
    )

    def terms(self) -> "Terms":
        """The loss of swap, under the saliency mask."""
        from begat.unlearning.terms import saliency_mask

        mask = partial(saliency_mask, mask_fraction=self.mask_fraction)
        return dataclasses.replace(super().terms(), mask=mask)


@dataclass(frozen=True)
class Ewc(Noise):
    """Predict as noise, under a Fisher penalty (selective amnesia, arXiv 2305.10120)."""

    name: ClassVar[str] = "ewc"
    ewc_weight: float = param(
        "weight of the penalty of elastic weight consolidation", default=10.0, ge=0, le=1e9
    )

    def terms(self) -> "Terms":
        """The loss of noise, and the weight of the penalty."""
        return dataclasses.replace(super().terms(), ewc_weight=self.ewc_weight)


@dataclass(frozen=True)
class RetainOnly(Operator):
    """Fine-tune with the training loss on retained images only (baseline of arXiv 1911.04933)."""

    name: ClassVar[str] = "retain_only"

    def terms(self) -> "Terms":
        """No forget term."""
        from begat.unlearning.terms import Terms

        return Terms()


@dataclass(frozen=True)
class Newton(RetainOnly):
    """Take one Newton step away from the group only (certified removal, arXiv 1911.03030)."""

    name: ClassVar[str] = "newton"
    needs_curvature: ClassVar[bool] = True
    needs_steps: ClassVar[bool] = False
    damping: float = param(
        "damping of the curvature, a multiple of each block's mean eigenvalue",
        default=100.0,
        ge=0,
        le=1e9,
    )

    @property
    def curvature_damping(self) -> float:
        """The damping of the inverse curvature."""
        return self.damping


OPERATORS: dict[str, type[Operator]] = {
    cls.name: cls
    for cls in (
        PosteriorMean,
        Retrack,
        Anchor,
        Esd,
        Swap,
        Noise,
        Ascent,
        Siss,
        Salun,
        Ewc,
        RetainOnly,
        Newton,
    )
}


def parse_operator(mapping: object) -> Operator:
    """The operator of a mapping such as ``{"name": "salun", "mask_fraction": 0.5}``.

    Raises:
        BegatError: naming the key, what was expected and what was found.
    """
    if not isinstance(mapping, Mapping):
        example = "{name: salun, mask_fraction: 0.5}"
        shown = brief(repr(mapping), 80)
        raise BegatError(f"operator: expected a mapping like {example}, found {shown}")
    name = mapping.get("name")
    if not isinstance(name, str) or name not in OPERATORS:
        shown = brief(repr(name), 80) if "name" in mapping else "none"
        raise BegatError(f"operator.name: expected one of {', '.join(OPERATORS)}, found {shown}")
    return OPERATORS[name].parse({key: value for key, value in mapping.items() if key != "name"})
