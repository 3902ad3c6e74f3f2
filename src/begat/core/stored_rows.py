"""Rows of gradients kept while others stream past, in less memory where that is asked for.

Averaged gradients are not of low rank, but they stand coarse rounding: int8 with one scale for
each row and block keeps the order of scores at a quarter of the size (arXiv 2410.13850, app. C).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Storage = Literal["full", "half", "int8"]


@dataclass(frozen=True)
class StoredRows:
    """Rows cut into blocks of parameters, each with a scale per row."""

    places: Sequence[slice]
    codes: Sequence[Tensor]
    scales: Sequence[Float[Tensor, "row 1"]]

    def products(self, rows: Float[Tensor, "image parameter"]) -> Float[Tensor, "row image"]:
        """The inner product of every stored row with every given one."""
        total = rows.new_zeros(len(self.codes[0]), len(rows))
        for place, code, scale in zip(self.places, self.codes, self.scales, strict=True):
            total += (code.to(rows) @ rows[:, place].T) * scale
        return total

    @property
    def bytes(self) -> int:
        """Memory of the codes."""
        return sum(code.numel() * code.element_size() for code in self.codes)


def stored(
    rows: Float[Tensor, "row parameter"], places: Sequence[slice], storage: Storage
) -> StoredRows:
    """The rows as ``full`` (their own precision), ``half`` or ``int8`` numbers."""
    if storage == "full":
        return StoredRows([slice(0, rows.shape[1])], [rows], [rows.new_ones(len(rows), 1)])
    codes, scales = [], []
    for place in places:
        part = rows[:, place]
        scale = part.abs().amax(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
        scale = scale / LARGEST[storage]
        code = part / scale
        codes.append(code.round().to(torch.int8) if storage == "int8" else code.half())
        scales.append(scale)
    return StoredRows(list(places), codes, scales)


LARGEST = {"half": 1.0, "int8": 127.0}  # halves are scaled as well: tiny gradients would underflow
