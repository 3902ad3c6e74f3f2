"""Gradients of a 3x3 convolution in an eigenbasis of its patches, by Winograd's F(4x4, 3x3).

Projecting the patches, a_p^T Q, is itself a convolution of the image with one kernel per
eigenvector. Winograd's F(4x4, 3x3) (Lavin & Gray, arXiv 1509.09308, section 4.1) computes a tile of
4x4 outputs from 6x6 inputs with 36 products instead of 144: Y = A^T [(G g G^T) * (B^T d B)] A. Y is
never formed: the sum over positions of b_p (a_p^T Q) moves A over to b, so that 36 products per
tile are summed.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from begat.influence.layer_inputs import padding

TILE_INPUT, TILE_OUTPUT = 6, 4  # pixels of a tile along one axis
MIN_CHANNELS = 32  # below, the matrices are too narrow for fast products
MIN_SAVING = 1.5  # ratio of products needed: tiles have to be cut out and transformed

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


def tile_count(gradient: Float[Tensor, "example feature_out out_y out_x"]) -> int:
    """Returns the number of tiles that cover one example's output."""
    rows, columns = _tile_grid(gradient)
    return rows * columns


def _tile_grid(gradient: Tensor) -> tuple[int, int]:
    """Returns the number of rows and columns of tiles."""
    return -(-gradient.shape[2] // TILE_OUTPUT), -(-gradient.shape[3] // TILE_OUTPUT)


def is_cheaper(module: nn.Module, activation: Tensor, gradient: Tensor) -> bool:
    """Returns whether tiles take fewer products than projecting patches or gradients does."""
    if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3):
        return False
    if module.stride != (1, 1) or module.dilation != (1, 1):
        return False
    channels, outputs, positions = activation.shape[1], gradient.shape[1], gradient[0, 0].numel()
    if channels < MIN_CHANNELS:
        return False
    filters = TILE_INPUT**2 * 9 * channels / len(activation)
    tiled = TILE_INPUT**2 * tile_count(gradient) * (channels + outputs) + filters
    direct = min(outputs, positions) * 9 * channels + positions * outputs
    return direct > MIN_SAVING * tiled


def transform_filters(
    basis: Float[Tensor, "patch eigenvector"], channels: int
) -> Float[Tensor, "point channel eigenvector"]:
    """Returns G g G^T for the kernel g of every eigenvector."""
    kernels = basis.reshape(9, channels * basis.shape[1])  # [tap, channel eigenvector]
    filters = _both_axes(_G, basis) / 24**2 @ kernels  # [point, channel eigenvector]
    return filters.view(TILE_INPUT**2, channels, -1)  # [point, channel, eigenvector]


def eigenbasis_factors(
    module: nn.Conv2d,
    activation: Float[Tensor, "example channel y x"],
    gradient: Float[Tensor, "example feature_out out_y out_x"],
    basis_out: Float[Tensor, "feature_out other"],
    filters: Float[Tensor, "point channel eigenvector"],
) -> tuple[Float[Tensor, "example other sum"], Float[Tensor, "example sum eigenvector"]]:
    """Returns two matrices whose product is Q_B^T [sum_p b_p a_p^T] Q_A, for every example.

    ``filters`` are the transformed filters of Q_A.
    """
    examples, grid = len(activation), _tile_grid(gradient)
    d = _tiles(activation, TILE_INPUT, grid, padding(module))  # [pixel, tile example, channel]
    d = _both_axes(_B, d) @ d.flatten(1)  # [point, tile example channel]
    d = d.view(TILE_INPUT**2, -1, activation.shape[1])  # [point, tile example, channel]
    products = torch.bmm(d, filters)  # [point, tile example, eigenvector]
    right = products.view(-1, examples, filters.shape[2])  # [point tile, example, eigenvector]
    b = _tiles(gradient, TILE_OUTPUT, grid, (0, 0)) @ basis_out  # [pixel, tile example, other]
    b = _both_axes(_A, b) @ b.flatten(1)  # [point, tile example other]
    left = b.view(-1, examples, basis_out.shape[1])  # [point tile, example, other]
    return left.permute(1, 2, 0), right.transpose(0, 1)


def _both_axes(matrix: list[list[int]], like: Tensor) -> Tensor:
    """Returns a transform along one axis of a tile as one of flattened tiles, along both axes."""
    transform = torch.tensor(matrix, dtype=like.dtype, device=like.device)
    return torch.kron(transform, transform)


def _tiles(
    image: Tensor, size: int, grid: tuple[int, int], offset: tuple[int, int]
) -> Float[Tensor, "pixel tile_example channel"]:
    """Returns square tiles of an image padded with zeros, ``TILE_OUTPUT`` pixels apart.

    ``offset`` is the padding above and to the left. Of the second axis examples vary fastest.
    """
    batch, channels, height, width = image.shape
    (top, left), (rows, columns), overlap = offset, grid, size - TILE_OUTPUT
    shape = (TILE_OUTPUT * rows + overlap, TILE_OUTPUT * columns + overlap)
    padded = image.new_zeros(*shape, batch, channels)  # [y, x, example, channel]
    padded[top : top + height, left : left + width] = image.permute(2, 3, 0, 1)
    s_y, s_x, s_example, s_channel = padded.stride()
    tiles = padded.as_strided(  # [y, x, tile row, tile column, example, channel]
        (size, size, rows, columns, batch, channels),
        (s_y, s_x, TILE_OUTPUT * s_y, TILE_OUTPUT * s_x, s_example, s_channel),
    )
    return tiles.reshape(size**2, -1, channels)
