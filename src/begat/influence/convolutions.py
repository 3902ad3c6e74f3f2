"""Sums over the positions of a convolution, without a copy of its patches (im2col by rows).

Patches contain every pixel once per tap of the kernel. *Unfolded rows* contain it once per tap of
one row of the kernel: a patch is made of the unfolded rows that it spans, and those of all
positions lie in them at a constant distance, so that patches are views.
"""

from collections.abc import Iterator
from functools import reduce
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from begat.influence.layer_inputs import layer_inputs, padding, unfold

BLOCK_COLUMNS = 96  # columns of a symmetric product computed at a time
MAX_ELEMENTS = 2**21  # elements unfolded at a time: products over many rows are faster
UnfoldedRows = Float[Tensor, "group row group_size column window"]


def unfold_rows(
    module: nn.Conv2d, image: Float[Tensor, "example channel y x"], group_size: int, padding_y: int
) -> UnfoldedRows:
    """Returns the inputs of one kernel row at each output column, in the order (kx, channel).

    ``group_size`` consecutive examples form a group, image rows varying slower than its examples:
    the inputs of a kernel row are then contiguous in each group. ``padding_y`` rows of zeros are
    added above and below.
    """
    step, dilation, kernel = module.stride[1], module.dilation[1], module.kernel_size[1]
    left, (batch, channels, height, width) = padding(module)[1], image.shape
    groups = batch // group_size
    padded = image.new_zeros(groups, height + 2 * padding_y, group_size, width + 2 * left, channels)
    inner = padded[:, padding_y : padding_y + height, :, left : left + width]
    inner.copy_(image.unflatten(0, (-1, group_size)).permute(0, 3, 1, 4, 2))
    columns = (padded.shape[3] - dilation * (kernel - 1) - 1) // step + 1
    *outer, s_x, s_channel = padded.stride()
    windows = padded.as_strided(  # [group, row, example, column, kx, channel]
        (*padded.shape[:3], columns, kernel, channels),
        (*outer, s_x * step, s_x * dilation, s_channel),
    )
    return windows.flatten(4).contiguous()  # [group, row, example, column, window]


def convolution_gradients(
    module: nn.Conv2d,
    image: Float[Tensor, "example channel y x"],
    gradient: Float[Tensor, "example feature_out out_y out_x"],
    group_size: int,
) -> Iterator[Float[Tensor, "group feature_out window"]]:
    """Yields sum_p b_p a_p^T over the positions of each group of examples, by row of the kernel.

    All are written to the same buffer, as new memory costs more than the products: each is valid
    until the next one is computed.
    """
    step, dilation = module.stride[0], module.dilation[0]
    rows = unfold_rows(module, image, group_size, padding(module)[0])
    b = gradient.unflatten(0, (-1, group_size))  # [group, example, output, y, x]
    b = b.permute(0, 2, 3, 1, 4).flatten(2)  # [group, output, y example x]
    height = step * (gradient.shape[2] - 1) + 1
    buffer = b.new_empty(*b.shape[:2], rows.shape[-1])  # [group, output, window]
    for ky in range(0, dilation * module.kernel_size[0], dilation):
        a = rows[:, ky : ky + height : step].flatten(1, 3)  # [group, y example x, window]
        yield torch.bmm(b, a, out=buffer)


class InputCovariance:
    """sum_p a_p a_p^T of a convolution of stride 1, from the products of its unfolded rows.

    With Z_i the unfolded image row i, the block of kernel rows (k, k + lag) is the sum of
    Z_i^T Z_{i + lag} over the image rows i that kernel row k is applied to. All kernel rows are
    applied to the inner image rows: a product for each lag serves all blocks at that distance, and
    only rows at the border are treated separately.
    """

    def __init__(self, module: nn.Conv2d, height: int, out_height: int) -> None:
        kernel, top = module.kernel_size[0], padding(module)[0]
        self.kernel = kernel
        self.products = dict[tuple[int, int, int], Tensor]()  # (lag, first row, stop row)
        self.blocks = {  # (ky, ky + lag) -> lag, first row, stop row
            (k, k + lag): (lag, max(0, k - top), max(0, min(height - lag, k - top + out_height)))
            for lag in range(kernel)
            for k in range(kernel - lag)
        }

    def add(self, rows: UnfoldedRows) -> None:
        """Add the unfolded rows of several examples, all in one group."""
        for lag in range(self.kernel):
            spans = [span for block_lag, *span in self.blocks.values() if block_lag == lag]
            for start, stop in pairwise(sorted({end for span in spans for end in span})):
                first = rows[0, start:stop].flatten(0, 2)  # [row example column, window]
                second = rows[0, start + lag : stop + lag].flatten(0, 2)
                product = first.T @ second if lag else gram(first)  # [window, window]
                key = (lag, start, stop)
                self.products[key] = (
                    self.products[key] + product if key in self.products else product
                )

    def total(self) -> Float[Tensor, "feature_in feature_in"]:
        """Returns the sum over whole patches, in the order (ky, kx, channel) on both axes."""
        like = next(iter(self.products.values()))
        total = like.new_zeros(self.kernel, len(like), self.kernel, len(like))
        for (ky, other), (lag, first, last) in self.blocks.items():
            for (product_lag, start, stop), product in self.products.items():
                if product_lag == lag and first <= start and stop <= last:
                    total[ky, :, other] += product
            if lag:
                total[other, :, ky] = total[ky, :, other].T
        return total.flatten(2).flatten(0, 1)  # [ky window, ky window]


def gram(rows: Float[Tensor, "row feature"]) -> Float[Tensor, "feature feature"]:
    """Returns rows^T rows; if wide, only blocks on and above the diagonal are computed."""
    n = rows.shape[1]
    if n < 2 * BLOCK_COLUMNS:
        return rows.T @ rows
    product = rows.new_empty(n, n)
    for start in range(0, n, BLOCK_COLUMNS):
        block, below = slice(start, start + BLOCK_COLUMNS), slice(start + BLOCK_COLUMNS, None)
        product[block, start:] = rows[:, block].T @ rows[:, start:]
        product[below, block] = product[block, below].T
    return product


def input_covariance(
    module: nn.Module, activation: Tensor, gradient: Tensor
) -> Float[Tensor, "feature_in feature_in"]:
    """Returns sum_p a_p a_p^T over all examples of one call of a layer, uncentred."""
    if not isinstance(module, nn.Conv2d):
        return gram(layer_inputs(module, activation).flatten(0, 1))
    kernel_y, kernel_x = module.kernel_size
    size = activation[0].numel()
    if module.stride[0] == 1 and module.dilation[0] == 1:
        covariance = InputCovariance(module, activation.shape[2], gradient.shape[2])
        for batch in activation.split(max(1, MAX_ELEMENTS // (kernel_x * size))):
            covariance.add(unfold_rows(module, batch, len(batch), 0))
        return covariance.total()
    batches = activation.split(max(1, MAX_ELEMENTS // (kernel_y * kernel_x * size)))
    products = (gram(unfold(module, batch).flatten(0, 1)) for batch in batches)
    return reduce(torch.add, products)
