"""Base classes of unlearning operators: declaration, bounds and parsing of their parameters."""

import dataclasses
import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from begat.config.fields import param, violated_bound
from begat.errors import BegatError, brief

if TYPE_CHECKING:
    from begat.unlearning.targets import Target
    from begat.unlearning.terms import Terms


@dataclass(frozen=True)
class Operator:
    """An unlearning operator and its parameters.

    Attributes:
        name: in parameter files.
        needs_labels: it works with conditional networks only.
        needs_curvature: its initial weights are a Newton step, from the inverse curvature of the
            full model.
        needs_steps: it takes optimiser steps; otherwise the initial weights are the result.
    """

    name: ClassVar[str]
    needs_labels: ClassVar[bool] = False
    needs_curvature: ClassVar[bool] = False
    needs_steps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raise BegatError if a parameter is out of its bounds."""
        for declared in dataclasses.fields(self):
            value = getattr(self, declared.name)
            if expected := violated_bound(declared, value):
                raise BegatError(f"{declared.name}: expected {expected}, found {value}")

    @classmethod
    def parse(cls, parameters: Mapping[Any, Any]) -> "Operator":
        """The operator with these parameters, and its defaults for all others.

        Raises:
            BegatError: an unknown parameter, another type, a value out of bounds.
        """
        declared = {field.name: field for field in dataclasses.fields(cls)}
        values = {}
        for key, value in parameters.items():
            place = f"operator.{brief(str(key), 80)}"
            if key not in declared:
                near = difflib.get_close_matches(str(key)[:80], declared, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                own = ", ".join(declared) or "it has none"
                raise BegatError(f"{place}: expected a parameter of {cls.name} ({own}){hint}")
            values[key] = _number(place, value, declared[key].type)
        try:
            return cls(**values)
        except BegatError as error:
            raise BegatError(f"operator.{error}") from None

    @property
    def curvature_damping(self) -> float | None:
        """The damping of the inverse curvature, None if none is needed."""
        return None

    def terms(self) -> "Terms":
        """The loss terms, the mask and the penalty that make up the operator."""
        raise NotImplementedError


@dataclass(frozen=True)
class TargetOperator(Operator):
    """An operator that draws the predicted noise on forget images to a target."""

    min_noise_variance: float = param(
        "noise variance from which the target holds; below it the full model's prediction does",
        default=0.0,
        ge=0,
        le=1,
    )

    def target(self) -> "Target":
        """The target, a function of its context."""
        raise NotImplementedError

    def terms(self) -> "Terms":
        """The squared distance from the target on forget images."""
        from begat.unlearning.terms import Terms, target_loss

        return Terms(target_loss(self.target(), self.min_noise_variance))


def _number(place: str, value: Any, declared: Any) -> float:
    """A value in its declared type; a whole number is a number, the reverse is not."""
    allowed = (int, float) if declared is float else (int,)
    is_number = isinstance(value, allowed) and not isinstance(value, bool)
    if not is_number or not abs(value) <= sys.float_info.max:
        expected = "a finite number" if declared is float else "a whole number"
        raise BegatError(f"{place}: expected {expected}, found {brief(repr(value), 80)}")
    return float(value) if declared is float else value
