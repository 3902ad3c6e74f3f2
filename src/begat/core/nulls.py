"""Codes that no unit holds: what membership alone can do to a score."""

import math

import numpy as np
from jaxtyping import Bool

from begat.core.codes import Codes, capacity, words


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
