"""Sums over the positions of a convolution, without a copy of its patches.

Patches hold every pixel once per tap of the kernel. *Row windows* hold it once per tap of a row:
a patch is the windows of the rows that it spans, and those of all positions stand in them at a
fixed distance, so that they are there without being copied.
"""

from collections.abc import Iterator
from functools import reduce
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from begat.influence.layer_inputs import inputs_of, padding, patches

TILE = 96  # columns of a symmetric product computed at a time
HELD = 2**21  # numbers of windows made at a time: products over many rows are quicker
Windows = Float[Tensor, "group row each column window"]


def row_windows(
    module: nn.Conv2d, image: Float[Tensor, "example channel y x"], each: int, above: int
) -> Windows:
    """What a row of the kernel sees at each output column, in the order (kx, channel).

    Examples are grouped by ``each`` successive ones, rows in front of them: all that a row of the
    kernel meets in a group then lies in one piece. ``above`` rows of zeros stand above and below.
    """
    step, apart, kernel = module.stride[1], module.dilation[1], module.kernel_size[1]
    left, (batch, channels, height, width) = padding(module)[1], image.shape
    padded = image.new_zeros(batch // each, height + 2 * above, each, width + 2 * left, channels)
    inner = padded[:, above : above + height, :, left : left + width]
    inner.copy_(image.unflatten(0, (-1, each)).permute(0, 3, 1, 4, 2))
    columns = (padded.shape[3] - apart * (kernel - 1) - 1) // step + 1
    *outer, of_x, of_channel = padded.stride()
    windows = padded.as_strided(
        (*padded.shape[:3], columns, kernel, channels),
        (*outer, of_x * step, of_x * apart, of_channel),
    )
    return windows.flatten(4).contiguous()


def convolution_gradients(
    module: nn.Conv2d,
    image: Float[Tensor, "example channel y x"],
    gradient: Float[Tensor, "example feature_out out_y out_x"],
    each: int,
) -> Iterator[Float[Tensor, "group feature_out window"]]:
    """sum_p b_p a_p^T over the positions of ``each`` successive examples, by row of the kernel.

    All are made in the same memory, fresh memory costing more than the products: each is there
    until the next is asked for.
    """
    step, apart = module.stride[0], module.dilation[0]
    windows = row_windows(module, image, each, padding(module)[0])
    b = gradient.unflatten(0, (-1, each)).permute(0, 2, 3, 1, 4).flatten(2)
    span = step * (gradient.shape[2] - 1) + 1
    room = b.new_empty(*b.shape[:2], windows.shape[-1])
    for row in range(0, apart * module.kernel_size[0], apart):
        yield torch.bmm(b, windows[:, row : row + span : step].flatten(1, 3), out=room)


class PatchProducts:
    """sum_p a_p a_p^T of a convolution of stride 1, from the products of its row windows.

    With Z_i the windows of image row i, the block of kernel rows (k, k + lag) is the sum of
    Z_i^T Z_{i + lag} over the rows i that tap k meets. All taps meet the inner rows: a product
    with each lag serves all blocks at that distance, and only rows at the border are told apart.
    """

    def __init__(self, module: nn.Conv2d, height: int, out: int) -> None:
        kernel, top = module.kernel_size[0], padding(module)[0]
        self.kernel, self.lagged = kernel, dict[tuple[int, int, int], Tensor]()
        self.met = {
            (k, k + lag): (lag, max(0, k - top), max(0, min(height - lag, k - top + out)))
            for lag in range(kernel)
            for k in range(kernel - lag)
        }

    def add(self, windows: Windows) -> None:
        """Take in the windows of some examples, all in one group."""
        for lag in range(self.kernel):
            ends = sorted({end for at, *met in self.met.values() if at == lag for end in met})
            for start, stop in pairwise(ends):
                first = windows[0, start:stop].flatten(0, 2)
                second = windows[0, start + lag : stop + lag].flatten(0, 2)
                product = first.T @ second if lag else gram(first)
                at = (lag, start, stop)
                self.lagged[at] = self.lagged[at] + product if at in self.lagged else product

    def total(self) -> Float[Tensor, "feature_in feature_in"]:
        """The products of whole patches, in the order (ky, kx, channel) twice."""
        width = len(next(iter(self.lagged.values())))
        found = next(iter(self.lagged.values())).new_zeros(self.kernel, width, self.kernel, width)
        for (one, two), (lag, first, last) in self.met.items():
            for (at, start, stop), product in self.lagged.items():
                if at == lag and first <= start and stop <= last:
                    found[one, :, two] += product
            if lag:
                found[two, :, one] = found[one, :, two].T
        return found.flatten(2).flatten(0, 1)


def gram(rows: Float[Tensor, "row feature"]) -> Float[Tensor, "feature feature"]:
    """rows^T rows; of a wide one only the blocks on and above the diagonal are computed."""
    n = rows.shape[1]
    if n < 2 * TILE:
        return rows.T @ rows
    found = rows.new_empty(n, n)
    for start in range(0, n, TILE):
        some, below = slice(start, start + TILE), slice(start + TILE, None)
        found[some, start:] = rows[:, some].T @ rows[:, start:]
        found[below, some] = found[some, below].T
    return found


def inputs_gram(
    module: nn.Module, seen: Tensor, gradient: Tensor
) -> Float[Tensor, "feature_in feature_in"]:
    """sum_p a_p a_p^T over all examples of one use of a layer."""
    if not isinstance(module, nn.Conv2d):
        return gram(inputs_of(module, seen).flatten(0, 1))
    taps = module.kernel_size
    if module.stride[0] == 1 and module.dilation[0] == 1:
        found = PatchProducts(module, seen.shape[2], gradient.shape[2])
        for some in seen.split(max(1, HELD // (taps[1] * seen[0].numel()))):
            found.add(row_windows(module, some, len(some), 0))
        return found.total()
    pieces = seen.split(max(1, HELD // (taps[0] * taps[1] * seen[0].numel())))
    products = (gram(patches(module, some).flatten(0, 1)) for some in pieces)
    return reduce(torch.add, products)
