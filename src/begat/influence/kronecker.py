"""Algebra of curvature blocks in their eigenbasis: damping, inverting, subtracting a group.

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

Curvature = Mapping[str, Mapping[str, Tensor]]
Structure = Literal["ekfac", "kfac"]
Rotated = Float[Tensor, "row output input"]


@dataclass(frozen=True)
class Block:
    """A block of the curvature; ``place`` is where it stands in a flat row of gradients."""

    name: str
    place: slice
    basis_out: Float[Tensor, "output output"]
    basis_in: Float[Tensor, "input input"] | None
    eigenvalues: Float[Tensor, "output input"]

    @property
    def dead(self) -> bool:
        """Nothing that the model was asked moves this block."""
        return not bool(self.eigenvalues.any())


def blocks(layers: Sequence[Layer], curvature: Curvature, structure: Structure) -> list[Block]:
    """The curvature's blocks, in the order of a row.

    ``ekfac`` takes the variance of the gradients along each eigenvector (George et al.,
    arXiv 1806.03884), ``kfac`` the products of the factors' eigenvalues (arXiv 1503.05671).
    """
    found = []
    for layer in layers:
        part = curvature[layer.name]
        if not layer.inputs:
            place = slice(layer.start, layer.stop)
            values = part["parameter_eigenvalues"][:, None]
            found.append(Block(layer.name, place, part["parameter_eigenvectors"], None, values))
            continue
        basis_out, basis_in = part["gradient_eigenvectors"], part["activation_eigenvectors"]
        values, of_bias = _eigenvalues(part, structure)
        found.append(Block(f"{layer.name}.weight", layer.weight, basis_out, basis_in, values))
        if layer.bias:
            place = slice(layer.weight.stop, layer.stop)
            found.append(Block(f"{layer.name}.bias", place, basis_out, None, of_bias[:, None]))
    return _without_rounding(found)


def _without_rounding(blocks: list[Block]) -> list[Block]:
    """The blocks, those dead but for rounding made dead.

    The bias of attention's keys has no gradient at all, as softmax does not see it: what is found
    there is rounding. A damping relative to it would blow it up to the size of any other block's.
    """
    largest = max(float(b.eigenvalues.max()) for b in blocks)
    floor = largest * (100 * torch.finfo(blocks[0].eigenvalues.dtype).eps) ** 2
    return [
        replace(b, eigenvalues=torch.zeros_like(b.eigenvalues))
        if b.eigenvalues.max() <= floor
        else b
        for b in blocks
    ]


def _eigenvalues(part: Mapping[str, Tensor], structure: Structure) -> tuple[Tensor, Tensor]:
    """Those of a layer's weight and of its bias, whose input is always 1."""
    if structure == "ekfac":
        return part["eigenvalues"], part.get("bias_eigenvalues", part["eigenvalues"][:, 0])
    of_output = part["gradient_eigenvalues"]
    return torch.outer(of_output, part["activation_eigenvalues"]), of_output


def rotated(block: Block, rows: Float[Tensor, "row parameter"]) -> Rotated:
    """Q_B^T G Q_A, for the block's part of whole rows."""
    part = rows[:, block.place].unflatten(1, (len(block.basis_out), -1))
    part = block.basis_out.T @ part
    return part if block.basis_in is None else part @ block.basis_in


def unrotated(block: Block, part: Rotated) -> Float[Tensor, "row part"]:
    """Q_B G Q_A^T, flat: what ``rotated`` made of a row's part, taken back."""
    part = part if block.basis_in is None else part @ block.basis_in.T
    return (block.basis_out @ part).flatten(1)


def absolute(block: Block, value: float) -> float:
    """d = value."""
    return value


def mean_eigenvalue(block: Block, value: float) -> float:
    """d = value times the block's mean eigenvalue."""
    return value * float(block.eigenvalues.mean())


DAMPINGS: dict[str, Callable[[Block, float], float]] = {
    "absolute": absolute,
    "mean_eigenvalue": mean_eigenvalue,
}


def damped(block: Block, kind: str, value: float) -> Float[Tensor, "output input"]:
    """1 / (L + d); 0 all over for a dead block, which then contributes nothing.

    Raises:
        BegatError: nothing damps a block that is singular.
    """
    if block.dead:
        return torch.zeros_like(block.eigenvalues)
    damping = DAMPINGS[kind](block, value)
    eigenvalues = block.eigenvalues
    if damping <= 0 and eigenvalues.min() <= _rounding(eigenvalues):
        raise BegatError(
            f"{block.name}: its curvature is singular (smallest eigenvalue "
            f"{eigenvalues.min().item():.1e}) and cannot be inverted with damping {damping}"
        )
    return 1 / (eigenvalues + damping)


def _rounding(eigenvalues: Tensor) -> float:
    largest = float(eigenvalues.max())
    return largest * eigenvalues.numel() * torch.finfo(eigenvalues.dtype).eps


def preconditioned(
    blocks: Sequence[Block],
    rows: Float[Tensor, "row parameter"],
    kind: str,
    values: Sequence[float],
) -> Float[Tensor, "damping row parameter"]:
    """Rows times the damped inverse curvature, for a whole grid of dampings in one rotation."""
    found = rows.new_empty(len(values), *rows.shape)
    for block in blocks:
        for row, part in zip(found, divided(block, rows, kind, values), strict=True):
            row[:, block.place] = part
    return found


def divided(
    block: Block, rows: Float[Tensor, "row parameter"], kind: str, values: Sequence[float]
) -> Iterator[Float[Tensor, "row part"]]:
    """The block's part of ``preconditioned`` rows, for one damping after another."""
    part = rotated(block, rows)
    for value in values:
        yield unrotated(block, part * damped(block, kind, value))


def dead_blocks(blocks: Sequence[Block]) -> list[str]:
    """The names of the blocks without any curvature."""
    return [block.name for block in blocks if block.dead]


def without(blocks: Sequence[Block], group: Sequence[Block], share: float) -> list[Block]:
    """The curvature that is left without a group: L - share * L_group, in the same eigenbasis.

    Means are over all images and over the group's images; ``share`` is the group's size over all.
    What rounding makes negative is nothing.
    """
    return [
        replace(b, eigenvalues=(b.eigenvalues - share * g.eigenvalues).clamp(min=0))
        for b, g in zip(blocks, group, strict=True)
    ]
