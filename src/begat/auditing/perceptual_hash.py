"""Perceptual hashes: 64 bits that hardly change if an image is resized or compressed again.

The hash is that of Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions
(2010), section 3.2, in the variant with the mean coefficient: the 8 x 8 lowest frequencies of the
cosine transform of the image in grey at 32 x 32 pixels, each compared with their median. The image
is resized by averages over areas. All sums are of whole numbers, so that every machine computes the
same bits.
"""

from functools import cache

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt64

SIDE, FREQUENCIES = 32, 8
SCALE = 1024  # of the cosines; with it, sums for images of 4096 pixels fit into 63 bits
LUMA = (19595, 38470, 7471)  # ITU-R BT.601 in 1/65536, as Pillow rounds it
BITS = FREQUENCIES**2


def perceptual_hashes(
    pixels: UInt8[np.ndarray, "image channel y x"],
) -> UInt64[np.ndarray, " image"]:
    """Returns the perceptual hash of each image, grey or in colour; they must be square."""
    rows = _transform(pixels.shape[-1])
    columns = rows.T.astype(np.int64)
    levels = (rows @ _grey(pixels).astype(np.float64)).astype(np.int64) @ columns
    coefficients = levels.reshape(len(pixels), BITS)
    median = np.sort(coefficients, 1)[:, BITS // 2 - 1 : BITS // 2]
    bits = np.packbits(coefficients > median, 1)
    return bits.view(">u8")[:, 0].astype(np.uint64)


def bit_distances(
    hashes: UInt64[np.ndarray, " image"], perceptual_hash: int
) -> Int[np.ndarray, " image"]:
    """Returns in how many bits each hash differs from another one."""
    return np.bitwise_count(hashes ^ np.uint64(perceptual_hash)).astype(np.int64)


def _grey(pixels: UInt8[np.ndarray, "image channel y x"]) -> UInt8[np.ndarray, "image y x"]:
    if pixels.shape[1] == 1:
        return pixels[:, 0]
    weighted = np.einsum("ncyx,c->nyx", pixels.astype(np.uint32), np.array(LUMA, np.uint32))
    return (weighted + 2**15 >> 16).astype(np.uint8)


@cache
def _transform(size: int) -> Float[np.ndarray, "frequency pixel"]:
    """Returns the cosine transform of the averages over 32 equal parts of a row, times a constant.

    The entries are whole numbers below 2^53, as are their sums with levels, so products of float64
    are exact.
    """
    places = np.arange(SIDE) + 0.5
    cosines = np.rint(SCALE * np.cos(np.pi / SIDE * np.outer(np.arange(FREQUENCIES), places)))
    part, pixel = np.arange(SIDE)[:, None] * size, np.arange(size) * SIDE
    overlap = np.minimum(part + size, pixel + SIDE) - np.maximum(part, pixel)
    return cosines @ np.maximum(overlap, 0).astype(np.float64)
