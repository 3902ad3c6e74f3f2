"""PyTorch CPU generators derived from one root seed.

Apart from ``begat.rng.seeds``, which planning imports without torch.
"""

import torch

from begat.rng.seeds import seed_of


def torch_generator(root: int, *name: str | int) -> torch.Generator:
    """Returns a CPU generator with the seed of ``name`` under the root seed.

    On the CPU whatever device computes: uniform numbers and permutations are the same everywhere,
    and normal ones but for the last bits, which PyTorch computes by instruction set.
    """
    return torch.Generator().manual_seed(seed_of(root, *name))
