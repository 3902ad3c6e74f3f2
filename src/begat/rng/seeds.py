"""Random generators derived from one root seed and the name of the thing they serve.

No generator is global, per batch or per pack, so what is drawn for an image, a query or a model
does not depend on batch size, pack size, order or the number of workers.
"""

import hashlib

import numpy as np


def seed_of(root: int, *name: str | int) -> int:
    """The 63-bit seed of the thing called ``name`` under the root seed ``root``."""
    text = "/".join(map(str, (root, *name)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(root: int, *name: str | int) -> np.random.Generator:
    """A NumPy generator that belongs to the thing called ``name``."""
    return np.random.default_rng(seed_of(root, *name))
