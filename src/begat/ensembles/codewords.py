"""Binary codewords of constant weight: their number, and unranking in the combinatorial system.

A codeword has one bit per member of an ensemble; 1 = that member trains on the unit.
"""

import math
from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np
from jaxtyping import Bool

Codes = Bool[np.ndarray, "unit member"]


def codeword_count(members: int) -> int:
    """Returns the number of distinct codewords with ``members // 2`` ones."""
    return math.comb(members, members // 2)


def unrank_codeword(rank: int, members: int, weight: int) -> list[int]:
    """Returns the positions of the ones in the codeword of this rank, from the last to the first.

    Codewords of one weight are ranked in the combinatorial number system:
    rank = sum_i C(position_i, i + 1), with positions in ascending order.
    """
    positions = []
    for ones in range(weight, 0, -1):
        position = ones - 1
        while math.comb(position + 1, ones) <= rank:
            position += 1
        rank -= math.comb(position, ones)
        positions.append(position)
    return positions


def codewords(ranks: Iterable[SupportsIndex], members: int, weight: int) -> Codes:
    """Returns the codewords of these ranks, as rows of bits."""
    positions = [unrank_codeword(int(rank), members, weight) for rank in ranks]
    bits = np.zeros((len(positions), members), bool)
    np.put_along_axis(bits, np.array(positions, int).reshape(-1, weight), True, axis=1)
    return bits
