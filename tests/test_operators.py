"""Unlearning operators: their table, their parameters, and the errors of wrong ones."""

import dataclasses
import subprocess
import sys
from typing import ClassVar

import pytest

from begat.config.fields import REQUIRED, param
from begat.diffusion.training_config import OptimiserConfig
from begat.errors import BegatError
from begat.unlearning import operators
from begat.unlearning.config import CHOICES, UnlearningConfig
from begat.unlearning.operator_base import Operator
from begat.unlearning.operators import OPERATORS, Newton, RetainOnly, Salun, parse_operator
from begat.unlearning.terms import ERROR_WEIGHTS, RETAIN_LOSSES, Terms

OPTIMISER = OptimiserConfig(100, 1e-3, 10, 1.0)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_terms_a_source_and_bounds_for_its_defaults(name):
    operator = parse_operator({"name": name})
    assert operator == OPERATORS[name]()
    assert operator.name == name
    assert isinstance(operator.terms(), Terms)
    assert "arXiv" in str(operator.__doc__).strip()
    assert "\n" not in str(operator.__doc__).strip()
    for declared in dataclasses.fields(operator):
        rule = declared.metadata
        assert declared.default != REQUIRED
        assert rule["help"]
        assert rule["le"] is not None
        assert rule["ge"] is not None or rule["gt"] is not None


def test_parameters_are_parsed_in_their_declared_type():
    operator = parse_operator({"name": "salun", "mask_fraction": 1})
    assert operator == Salun(mask_fraction=1.0)
    assert isinstance(operator.mask_fraction, float)
    assert parse_operator({"name": "retrack", "num_neighbours": 3}).num_neighbours == 3


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("salun", r"operator: expected a mapping like .*, found 'salun'"),
        ({}, r"operator\.name: expected one of posterior_mean, .*, newton, found none"),
        ({"name": "forget"}, r"operator\.name: expected one of .*, found 'forget'"),
        ({"name": ["salun"]}, r"operator\.name: expected one of .*, found \['salun'\]"),
        (
            {"name": "salun", "mask_fractoin": 0.5},
            r"operator\.mask_fractoin: expected a parameter of salun "
            r"\(min_noise_variance, mask_fraction\); did you mean mask_fraction\?",
        ),
        (
            {"name": "retain_only", "damping": 1.0},
            r"operator\.damping: expected a parameter of retain_only \(it has none\)",
        ),
        (
            {"name": "salun", "mask_fraction": 2},
            r"operator\.mask_fraction: expected at most 1, found 2",
        ),
        (
            {"name": "salun", "mask_fraction": 0.0},
            r"operator\.mask_fraction: expected more than 0, found 0\.0",
        ),
        ({"name": "newton", "damping": -1}, r"operator\.damping: expected at least 0, found -1"),
        (
            {"name": "retrack", "num_neighbours": 2.5},
            r"operator\.num_neighbours: expected a whole number, found 2\.5",
        ),
        (
            {"name": "siss", "forget_strength": "much"},
            r"operator\.forget_strength: expected a finite number, found 'much'",
        ),
        (
            {"name": "siss", "forget_strength": True},
            r"operator\.forget_strength: expected a finite number, found True",
        ),
        (
            {"name": "siss", "forget_strength": float("nan")},
            r"operator\.forget_strength: expected a finite number, found nan",
        ),
        (
            {"name": "siss", "forget_strength": 10**400},
            r"operator\.forget_strength: expected a finite number, found 1000",
        ),
    ],
)
def test_a_wrong_mapping_is_refused_naming_key_expected_and_found(mapping, message):
    with pytest.raises(BegatError, match=message):
        parse_operator(mapping)


def test_parameters_given_in_code_have_the_same_bounds():
    with pytest.raises(BegatError, match="mask_fraction: expected at most 1, found 2"):
        Salun(mask_fraction=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(error_space="loud"), "error_space: expected one of clean, noise, velocity, found"),
        (
            dict(forget_weight=2.0, loss_combination="convex"),
            "forget_weight: expected 0..1 with loss_combination=convex, found 2",
        ),
        (
            dict(stopping_rule="rise"),
            "stopping_threshold: expected more than 0 with stopping_rule=rise, found 0",
        ),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(BegatError, match=message):
        UnlearningConfig(OPTIMISER, 8, **changes)


def test_every_choice_of_a_loss_has_its_function():
    assert set(CHOICES["retain_loss"]) == set(RETAIN_LOSSES)
    assert set(CHOICES["error_space"]) == set(ERROR_WEIGHTS)


def test_curvature_is_needed_for_a_newton_step_only():
    assert UnlearningConfig(OPTIMISER, 8).curvature_damping is None
    assert UnlearningConfig(OPTIMISER, 8, init="newton", init_damping=3.0).curvature_damping == 3
    config = UnlearningConfig(OPTIMISER, 8, Newton(damping=7.0), init_damping=3.0)
    assert (config.curvature_damping, config.num_steps) == (7, 0)
    assert [name for name, cls in OPERATORS.items() if cls.needs_curvature] == ["newton"]


def test_a_new_operator_is_one_class_in_the_table(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Toy(RetainOnly):
        """Do nothing (arXiv 0000.00000)."""

        name: ClassVar[str] = "toy"
        amount: float = param("how much", default=0.5, ge=0, le=1)

    monkeypatch.setitem(operators.OPERATORS, "toy", Toy)
    assert parse_operator({"name": "toy", "amount": 0.25}) == Toy(0.25)
    assert issubclass(Toy, Operator)


def test_operators_and_settings_are_checked_without_torch():
    code = "import sys, begat.unlearning.config as c; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
