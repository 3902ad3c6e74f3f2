"""Null codes and residual directions: the distribution of the score of a unit without effect."""

import math

import numpy as np
from jaxtyping import Bool, Float

from begat.ensembles.codewords import Codes, codeword_count, codewords


def null_codes(
    generator: np.random.Generator, codes: Codes, blocks: list[int], count: int
) -> Bool[np.ndarray, "null member"]:
    """Returns codewords of no unit, drawn like the units' own.

    A codeword is uniform within each block of members, half of whose bits are set. Where fewer
    than ``count`` unused codewords exist in one block, all of them are returned.
    """
    used = {code.tobytes() for code in codes}
    total = math.prod(codeword_count(block) for block in blocks)
    enumerable = len(blocks) == 1 and total <= 4 * (count + len(codes))

    def ranks(block: int) -> range | np.ndarray:
        if enumerable:
            return range(total)
        return generator.integers(0, codeword_count(block), 2 * count)

    parts = [codewords(ranks(block), block, block // 2) for block in blocks]
    candidates = np.unique(np.concatenate(parts, 1), axis=0)
    unused = candidates[[code.tobytes() not in used for code in candidates]]
    return generator.permutation(unused)[:count]


def residual_directions(codes: Codes) -> Float[np.ndarray, "direction member"]:
    """Returns an orthonormal basis of what is orthogonal to every unit's code and to their mean.

    These are the residual degrees of freedom of the regression of members' losses on codes:
    ``members - units - 1`` of them if the codes are those of a Hadamard design.
    """
    signs = np.concatenate([np.ones((1, codes.shape[1])), 2.0 * codes - 1])
    _, singular_values, directions = np.linalg.svd(signs)
    rank = int((singular_values > 1e-9 * singular_values[0]).sum())
    return directions[rank:]
