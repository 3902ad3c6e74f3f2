"""Gradients of a 3x3 convolution in an eigenbasis of its patches, by fewer products.

Rotating the patches, a_p^T Q, is itself a convolution of the image with one kernel per eigenvector.
Winograd's F(4x4, 3x3) (Lavin & Gray, arXiv 1509.09308, section 4.1) finds a tile of 4x4 outputs
from 6x6 inputs with 36 products instead of 144: Y = A^T [(G g G^T) * (B^T d B)] A. We never make Y:
the sum over positions of b_p (a_p^T Q) takes A over to b, so that 36 products per tile are summed.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from begat.influence.layer_inputs import padding

SIZE, STEP = 6, 4  # pixels a tile sees and outputs it makes, along one axis
THIN = 32  # channels below which products are too thin to be quick
GAIN = 1.5  # how many times fewer products there must be: tiles have to be cut and transformed

_B = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_G = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # over 24
_A = [[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]]


def number(back: Tensor) -> int:
    """How many tiles cover one example's output."""
    down, across = _along(back)
    return down * across


def _along(back: Tensor) -> tuple[int, int]:
    """Downwards and across."""
    return -(-back.shape[2] // STEP), -(-back.shape[3] // STEP)


def pays(module: nn.Module, seen: Tensor, back: Tensor) -> bool:
    """Whether tiles take fewer products than rotating patches or gradients, whichever is less."""
    if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3):
        return False
    if module.stride != (1, 1) or module.dilation != (1, 1):
        return False
    channels, outputs, positions = seen.shape[1], back.shape[1], back[0, 0].numel()
    if channels < THIN:
        return False
    of_filters = SIZE**2 * 9 * channels / len(seen)
    tiled = SIZE**2 * number(back) * (channels + outputs) + of_filters
    plain = min(outputs, positions) * 9 * channels + positions * outputs
    return plain > GAIN * tiled


def filters(
    basis: Float[Tensor, "patch eigenvector"], channels: int
) -> Float[Tensor, "point channel eigenvector"]:
    """G g G^T for the kernel g of every eigenvector."""
    kernels = basis.reshape(9, channels * basis.shape[1])
    return (_twice(_G, basis) / 24**2 @ kernels).view(SIZE**2, channels, -1)


def rotated_factors(
    module: nn.Conv2d,
    seen: Float[Tensor, "example channel y x"],
    back: Float[Tensor, "example feature_out out_y out_x"],
    basis_out: Float[Tensor, "feature_out other"],
    weights: Float[Tensor, "point channel eigenvector"],
) -> tuple[Float[Tensor, "example other sum"], Float[Tensor, "example sum eigenvector"]]:
    """Two matrices with product Q_B^T [sum_p b_p a_p^T] Q_A, for every example.

    ``weights`` are the filters of Q_A.
    """
    examples, (down, across) = len(seen), _along(back)
    d = _tiles(seen, SIZE, down, across, padding(module))
    d = (_twice(_B, d) @ d.flatten(1)).view(SIZE**2, -1, seen.shape[1])
    products = torch.bmm(d, weights).view(-1, examples, weights.shape[2])
    b = _tiles(back, STEP, down, across, (0, 0)) @ basis_out
    b = (_twice(_A, b) @ b.flatten(1)).view(-1, examples, basis_out.shape[1])
    return b.permute(1, 2, 0), products.transpose(0, 1)


def _twice(matrix: list[list[int]], like: Tensor) -> Tensor:
    """A transform along both axes of a tile."""
    once = torch.tensor(matrix, dtype=like.dtype, device=like.device)
    return torch.kron(once, once)


def _tiles(
    image: Tensor, size: int, down: int, across: int, above: tuple[int, int]
) -> Float[Tensor, "point tile_example channel"]:
    """Square tiles of an image, zeros around it, at a distance of ``STEP``; examples innermost."""
    batch, channels, height, width = image.shape
    (top, left), border = above, size - STEP
    shape = (STEP * down + border, STEP * across + border)
    padded = image.new_zeros(*shape, batch, channels)
    padded[top : top + height, left : left + width] = image.permute(2, 3, 0, 1)
    of_y, of_x, of_batch, of_channel = padded.stride()
    tiles = padded.as_strided(
        (size, size, down, across, batch, channels),
        (of_y, of_x, STEP * of_y, STEP * of_x, of_batch, of_channel),
    )
    return tiles.reshape(size**2, -1, channels)
