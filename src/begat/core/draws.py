"""The draws (timestep, noise) under which all models are compared."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from begat.errors import BegatError


def shared_draws(
    generator: torch.Generator, draws: int, timesteps: int, shape: tuple[int, int, int]
) -> tuple[Int[Tensor, " draw"], Float[Tensor, "draw channel y x"]]:
    """Timesteps and noises for one query: stratified in time, antithetic in noise.

    Draws come in pairs ``(2i, 2i+1)`` with the same timestep and opposite noise. The pairs'
    timesteps are spread over equal strata of ``0 .. timesteps-1``, one uniform point in each, so
    their mean over time has far less variance than independent draws (evaluated on digits: 8
    shared draws rank 24 models as well as 64 independent ones).

    Raises:
        BegatError: ``draws`` is odd or not positive.
    """
    if draws < 2 or draws % 2:
        raise BegatError(f"draws come in antithetic pairs: expected an even number, found {draws}")
    pairs = draws // 2
    position = (torch.arange(pairs) + torch.rand(pairs, generator=generator)) / pairs
    timestep = (position * timesteps).long().clamp(max=timesteps - 1)
    noise = torch.randn(pairs, *shape, generator=generator)
    return timestep.repeat_interleave(2), torch.stack([noise, -noise], 1).flatten(0, 1)


def telling_draws(draws: int, count: int, low: float = 0.2, high: float = 0.7) -> list[int]:
    """Numbers of ``count`` shared draws between two shares of the process, spread evenly.

    One of each antithetic pair, as long as there are enough. The band was found without retraining,
    by how far antithetic draws agree on the differences between models that forgot (digits): below
    a fifth of the process they contradict each other, above .7 there are hardly any differences.

    Raises:
        BegatError: more draws are asked for than there are.
    """
    pairs = draws // 2
    inside = [i for i in range(pairs) if low <= (i + 0.5) / pairs < high]
    candidates = [2 * i for i in inside]
    if count > len(candidates):
        candidates = sorted(candidates + [2 * i + 1 for i in inside])
    if not 0 < count <= len(candidates):
        raise BegatError(
            f"expected 1 to {len(candidates)} of {draws} draws in {low} to {high}, found {count}"
        )
    return [candidates[(2 * i + 1) * len(candidates) // (2 * count)] for i in range(count)]
