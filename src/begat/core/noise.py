"""Torch generators that belong to the thing they serve."""

import torch

from begat.core.seeds import seed_of


def torch_generator(root: int, *name: str | int) -> torch.Generator:
    """A CPU generator that belongs to the thing called ``name``.

    Always on the CPU, whatever device computes: the same numbers everywhere.
    """
    return torch.Generator().manual_seed(seed_of(root, *name))
