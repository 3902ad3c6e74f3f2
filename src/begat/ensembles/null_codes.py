"""Codes and directions that no unit holds: what membership alone can do to a score."""

import math

import numpy as np
from jaxtyping import Bool, Float

from begat.ensembles.codes import Codes, capacity, words


def unused_codes(
    generator: np.random.Generator, codes: Codes, blocks: list[int], count: int
) -> Bool[np.ndarray, "null member"]:
    """Words that no unit holds, drawn like the units' own: what a unit without effect has.

    A word is uniform within each block of members, half of whose bits are set. Where fewer than
    ``count`` such words are left, all of them come back.
    """
    used = {code.tobytes() for code in codes}
    total = math.prod(capacity(block) for block in blocks)
    everything = len(blocks) == 1 and total <= 4 * (count + len(codes))
    parts = [
        words(
            range(total) if everything else generator.integers(0, capacity(block), 2 * count),
            block,
            block // 2,
        )
        for block in blocks
    ]
    drawn = np.unique(np.concatenate(parts, 1), axis=0)
    free = drawn[[code.tobytes() not in used for code in drawn]]
    return generator.permutation(free)[:count]


def residual_directions(codes: Codes) -> Float[np.ndarray, "direction member"]:
    """Orthonormal directions that are orthogonal to every unit's code and to their mean.

    Those that an orthogonal regression of members' losses on codes leaves for its residuals; there
    are ``members - units - 1`` if the codes are those of a Hadamard design.
    """
    signs = np.concatenate([np.ones((1, codes.shape[1])), 2.0 * codes - 1])
    _, size, directions = np.linalg.svd(signs)
    return directions[int((size > 1e-9 * size[0]).sum()) :]
