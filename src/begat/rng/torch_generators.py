"""Torch generators that belong to the thing they serve."""

import torch

from begat.rng.seeds import seed_of


def torch_generator(root: int, *name: str | int) -> torch.Generator:
    """A CPU generator that belongs to the thing called ``name``.

    Always on the CPU, whatever device computes: the same uniform numbers and orders everywhere,
    and the same normal ones but for the last bits, which PyTorch computes by instruction set.
    """
    return torch.Generator().manual_seed(seed_of(root, *name))
