"""Seeds and NumPy generators derived from one root seed and the name of what they serve.

No generator is global, per batch or per pack, so the random numbers of an image, a query or a
model do not depend on batch size, pack size, order or the number of workers.
"""

import hashlib

import numpy as np


def seed_of(root: int, *name: str | int) -> int:
    """Returns a 63-bit seed: the first bits of the sha256 of ``root/name/...``."""
    text = "/".join(map(str, (root, *name)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(root: int, *name: str | int) -> np.random.Generator:
    """Returns a NumPy generator with the seed of ``name`` under the root seed."""
    return np.random.default_rng(seed_of(root, *name))
