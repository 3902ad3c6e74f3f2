"""Rows of gradients kept while others pass by, in less memory where that is asked for.

Averaged gradients are not of low rank, but they stand coarse rounding: int8 with one scale for
each row and layer keeps the order of scores at a quarter of the size (arXiv 2410.13850, app. C).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from begat.influence.gradients import pieces
from begat.influence.layers import Layer, Tape

Storage = Literal["float32", "float16", "int8"]
HELD = 2**22  # numbers of gradients made at a time
LARGEST = {
    "float16": 1.0,
    "int8": 127.0,
}  # halves are scaled as well: tiny gradients would underflow


@dataclass(frozen=True)
class StoredRows:
    """Rows cut as ``Layer.split`` cuts them, every layer with a scale per row.

    They lie as columns, ``[part, row]``: what passes by then meets them in the order both have in
    memory, which makes long products more than twice as quick.
    """

    codes: Sequence[Sequence[Tensor]]
    scales: Sequence[Float[Tensor, " row"]]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.scales[0])

    @property
    def bytes(self) -> int:
        """Memory of the codes."""
        return sum(part.numel() * part.element_size() for code in self.codes for part in code)


def stored(
    rows: Iterable[Float[Tensor, "row part"]], layers: Sequence[Layer], storage: Storage
) -> StoredRows:
    """Rows as ``full`` (their own precision), ``half`` or ``int8`` numbers.

    They come layer by layer, so that they need never all be there as they were.
    """
    codes, scales = [], []
    for layer, part in zip(layers, rows, strict=True):
        scale = part.new_ones(len(part))
        parts = [v.movedim(0, -1).flatten(0, -2).contiguous() for v in layer.split(part)]
        if storage != "float32":
            scale = part.abs().amax(1).clamp(min=torch.finfo(part.dtype).tiny) / LARGEST[storage]
            parts = [p / scale for p in parts]
            kind = {"float16": torch.float16, "int8": torch.int8}[storage]
            parts = [(p.round() if storage == "int8" else p).to(kind) for p in parts]
        codes.append(parts)
        scales.append(scale)
    return StoredRows(codes, scales)


def products(
    tape: Tape,
    kept: Sequence[StoredRows],
    counts: Float[Tensor, "sum group"],
    sums: Float[Tensor, "sum parameter"],
) -> list[Float[Tensor, "group row"]]:
    """The inner product of the gradient of every group on a tape with every stored row.

    The gradients are made layer by layer and never put together: putting whole rows into memory and
    reading them again takes longer than making them. Groups as in ``influence.gradients.pieces``.
    Each of ``sums`` grows by as much of every group's gradient as ``counts`` says.
    """
    like = tape.uses(tape.layers[0])[0][1]
    groups = counts.shape[1]
    totals = [like.new_zeros(groups, rows.rows) for rows in kept]
    for number, layer in enumerate(tape.layers):
        views = layer.split(sums[:, layer.place])
        for some, found in pieces(tape, layer, groups, HELD):
            for at, (part, view) in enumerate(zip(found, views, strict=True)):
                gradient = part.flatten(1)
                for total, rows in zip(totals, kept, strict=True):
                    code = rows.codes[number][at].to(like)
                    total[some] += (gradient @ code) * rows.scales[number]
                view += (counts[:, some] @ gradient).view_as(view)
    return totals
