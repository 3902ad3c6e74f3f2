"""Query gradients held in memory while training gradients are streamed; optionally quantised.

Averaged gradients are not of low rank, but they tolerate coarse rounding: int8 with one scale for
each row and layer keeps the order of scores at a quarter of the size (arXiv 2410.13850, app. C).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from begat.influence.layers import Layer
from begat.influence.tape_gradients import gradient_chunks
from begat.influence.tapes import Tape

GradientDtype = Literal["float32", "float16", "int8"]
MAX_ELEMENTS = 2**22  # elements of gradients made at a time
QUANTISED = {"float16": torch.float16, "int8": torch.int8}
LARGEST = {"float16": 1.0, "int8": 127.0}  # float16 is scaled too: tiny gradients would underflow


@dataclass(frozen=True)
class QuantisedGradients:
    """Rows of gradients cut as ``Layer.views`` cuts them, every layer with a scale per row.

    They are stored as columns, ``[column, row]``: streamed gradients then meet them in the order
    both have in memory, which makes long products more than twice as fast.
    """

    values: Sequence[Sequence[Tensor]]
    scales: Sequence[Float[Tensor, " row"]]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.scales[0])

    @property
    def bytes(self) -> int:
        """The memory of the values."""
        return sum(v.numel() * v.element_size() for layer in self.values for v in layer)


def quantise(
    rows: Iterable[Float[Tensor, "row column"]], layers: Sequence[Layer], dtype: GradientDtype
) -> QuantisedGradients:
    """Returns rows in ``float32`` (then in their own precision), ``float16`` or ``int8``.

    They are given layer by layer, so that they need never all be in memory at full precision.
    """
    values, scales = [], []
    for layer, columns in zip(layers, rows, strict=True):
        scale = columns.new_ones(len(columns))
        views = [v.movedim(0, -1).flatten(0, -2).contiguous() for v in layer.views(columns)]
        if dtype != "float32":
            tiny = torch.finfo(columns.dtype).tiny
            scale = columns.abs().amax(1).clamp(min=tiny) / LARGEST[dtype]
            views = [v / scale for v in views]
            views = [(v.round() if dtype == "int8" else v).to(QUANTISED[dtype]) for v in views]
        values.append(views)
        scales.append(scale)
    return QuantisedGradients(values, scales)


def tape_products(
    tape: Tape,
    queries: Sequence[QuantisedGradients],
    weights: Float[Tensor, "sum group"],
    sums: Float[Tensor, "sum parameter"],
) -> list[Float[Tensor, "group row"]]:
    """Returns inner products of the gradient of every group on a tape with all rows of ``queries``.

    The gradients are made layer by layer and never put together: writing whole rows to memory and
    reading them again takes longer than making them. Groups as in
    ``influence.tape_gradients.gradient_chunks``. In place, each of ``sums`` grows by every group's
    gradient times its weight.
    """
    like = tape.layer_calls(tape.layers[0])[0][1]
    groups = weights.shape[1]
    totals = [like.new_zeros(groups, query.rows) for query in queries]
    for number, layer in enumerate(tape.layers):
        sum_views = layer.views(sums[:, layer.span])
        for chunk, gradients in gradient_chunks(tape, layer, groups, MAX_ELEMENTS):
            for i, (view, sum_view) in enumerate(zip(gradients, sum_views, strict=True)):
                gradient = view.flatten(1)  # [group, column]
                for total, query in zip(totals, queries, strict=True):
                    values = query.values[number][i].to(like)  # [column, row]
                    total[chunk] += (gradient @ values) * query.scales[number]
                sum_view += (weights[:, chunk] @ gradient).view_as(sum_view)
    return totals
