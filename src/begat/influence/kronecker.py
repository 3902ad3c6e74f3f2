"""Algebra of curvature blocks in their eigenbasis: damping, inverse, down-dating by a group.

Letters, for one block of the parameters (a layer's weight, its bias, or a whole norm layer):
G[i, j]  a gradient, output i by input j     Q_B, Q_A  orthogonal eigenbases of its two axes
L[i, j]  eigenvalues of the curvature there  d         damping, one number per block
The block's curvature is (Q_B x Q_A) diag(L) (Q_B x Q_A)^T, its damped inverse times G is
Q_B [(Q_B^T G Q_A) / (L + d)] Q_A^T. A bias has no input axis: Q_A is absent and L has one column.
A norm layer is one dense block: Q_B are the eigenvectors of its whole curvature, Q_A is absent.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from begat.errors import BegatError
from begat.influence.layers import Layer

Curvature = Mapping[str, Mapping[str, Tensor]]  # layer -> name of a factor -> its values
Structure = Literal["ekfac", "kfac"]
Projected = Float[Tensor, "row output input"]


@dataclass(frozen=True)
class CurvatureBlock:
    """A block of the curvature; ``span`` are its columns in a flat row of gradients."""

    name: str
    span: slice
    basis_out: Float[Tensor, "output output"]
    basis_in: Float[Tensor, "input input"] | None
    eigenvalues: Float[Tensor, "output input"]

    @property
    def is_zero(self) -> bool:
        """Whether the block has no curvature: the loss does not depend on its parameters."""
        return not bool(self.eigenvalues.any())


def curvature_blocks(
    layers: Sequence[Layer], curvature: Curvature, structure: Structure
) -> list[CurvatureBlock]:
    """Returns the curvature's blocks, in the order of a row.

    ``ekfac`` takes the variance of the gradients along each eigenvector (George et al.,
    arXiv 1806.03884), ``kfac`` the products of the factors' eigenvalues (arXiv 1503.05671).
    """
    blocks = []
    for layer in layers:
        factors = curvature[layer.name]
        if not layer.in_features:
            basis, values = factors["parameter_eigenvectors"], factors["parameter_eigenvalues"]
            blocks.append(CurvatureBlock(layer.name, layer.span, basis, None, values[:, None]))
            continue
        basis_out, basis_in = factors["gradient_eigenvectors"], factors["activation_eigenvectors"]
        weight, bias = _eigenvalues(factors, structure)
        name = f"{layer.name}.weight"
        blocks.append(CurvatureBlock(name, layer.weight_span, basis_out, basis_in, weight))
        if layer.has_bias:
            name = f"{layer.name}.bias"
            blocks.append(CurvatureBlock(name, layer.bias_span, basis_out, None, bias[:, None]))
    return _zero_at_rounding_level(blocks)


def _zero_at_rounding_level(blocks: list[CurvatureBlock]) -> list[CurvatureBlock]:
    """Returns the blocks; eigenvalues of those at rounding level are set to zero.

    The bias of attention's keys has no gradient at all, as softmax is invariant to it: its values
    are rounding. A damping relative to them would scale them to the size of any other block's.
    """
    largest = max(float(b.eigenvalues.max()) for b in blocks)
    floor = largest * (100 * torch.finfo(blocks[0].eigenvalues.dtype).eps) ** 2
    return [
        replace(b, eigenvalues=torch.zeros_like(b.eigenvalues))
        if b.eigenvalues.max() <= floor
        else b
        for b in blocks
    ]


def _eigenvalues(factors: Mapping[str, Tensor], structure: Structure) -> tuple[Tensor, Tensor]:
    """Returns those of a layer's weight and of its bias, whose input is always 1."""
    if structure == "ekfac":
        weight = factors["eigenvalues"]
        return weight, factors.get("bias_eigenvalues", weight[:, 0])
    bias = factors["gradient_eigenvalues"]
    return torch.outer(bias, factors["activation_eigenvalues"]), bias


def to_eigenbasis(block: CurvatureBlock, rows: Float[Tensor, "row parameter"]) -> Projected:
    """Returns Q_B^T G Q_A, for the block's columns of whole rows."""
    gradient = rows[:, block.span].unflatten(1, (len(block.basis_out), -1))
    projected = block.basis_out.T @ gradient
    return projected if block.basis_in is None else projected @ block.basis_in


def from_eigenbasis(block: CurvatureBlock, projected: Projected) -> Float[Tensor, "row column"]:
    """Returns Q_B G Q_A^T, flat: the inverse of ``to_eigenbasis``."""
    if block.basis_in is not None:
        projected = projected @ block.basis_in.T
    return (block.basis_out @ projected).flatten(1)


def absolute(block: CurvatureBlock, value: float) -> float:
    """Returns d = value."""
    return value


def mean_eigenvalue(block: CurvatureBlock, value: float) -> float:
    """Returns d = value times the block's mean eigenvalue."""
    return value * float(block.eigenvalues.mean())


DAMPING_MODES: dict[str, Callable[[CurvatureBlock, float], float]] = {
    "absolute": absolute,
    "mean_eigenvalue": mean_eigenvalue,
}


def damped_inverse(
    block: CurvatureBlock, damping_mode: str, damping: float
) -> Float[Tensor, "output input"]:
    """Returns 1 / (L + d); 0 everywhere for a zero-curvature block, which contributes nothing.

    Raises:
        BegatError: the block is singular and its damping not positive.
    """
    eigenvalues = block.eigenvalues
    if block.is_zero:
        return torch.zeros_like(eigenvalues)
    d = DAMPING_MODES[damping_mode](block, damping)
    if d <= 0 and eigenvalues.min() <= _rounding(eigenvalues):
        raise BegatError(
            f"{block.name}: its curvature is singular (smallest eigenvalue "
            f"{eigenvalues.min().item():.1e}) and cannot be inverted with damping {d}"
        )
    return 1 / (eigenvalues + d)


def _rounding(eigenvalues: Tensor) -> float:
    largest = float(eigenvalues.max())
    return largest * eigenvalues.numel() * torch.finfo(eigenvalues.dtype).eps


def preconditioned(
    blocks: Sequence[CurvatureBlock],
    rows: Float[Tensor, "row parameter"],
    damping_mode: str,
    dampings: Sequence[float],
) -> Float[Tensor, "damping row parameter"]:
    """Returns rows times the damped inverse curvature, a grid of dampings from one projection."""
    result = rows.new_empty(len(dampings), *rows.shape)
    for block in blocks:
        solutions = damped_solve(block, rows, damping_mode, dampings)
        for by_damping, solution in zip(result, solutions, strict=True):
            by_damping[:, block.span] = solution
    return result


def damped_solve(
    block: CurvatureBlock,
    rows: Float[Tensor, "row parameter"],
    damping_mode: str,
    dampings: Sequence[float],
) -> Iterator[Float[Tensor, "row column"]]:
    """Yields the block's columns of ``preconditioned`` rows, one damping after another."""
    projected = to_eigenbasis(block, rows)
    for damping in dampings:
        yield from_eigenbasis(block, projected * damped_inverse(block, damping_mode, damping))


def zero_curvature_blocks(blocks: Sequence[CurvatureBlock]) -> list[str]:
    """Returns the names of the blocks without any curvature."""
    return [block.name for block in blocks if block.is_zero]


def downdated(
    blocks: Sequence[CurvatureBlock], group: Sequence[CurvatureBlock], share: float
) -> list[CurvatureBlock]:
    """Returns the curvature without a group: L - share * L_group, in the same eigenbasis.

    Means are over all images and over the group's images; ``share`` is the group's size over all.
    Negative values, which only rounding produces, are clamped to 0.
    """
    return [
        replace(b, eigenvalues=(b.eigenvalues - share * g.eigenvalues).clamp(min=0))
        for b, g in zip(blocks, group, strict=True)
    ]
