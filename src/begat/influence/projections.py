"""Random projections of gradients: inner products kept in expectation, in fewer numbers."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.errors import BegatError
from begat.rng.seeds import numpy_generator

STRIPE = 256  # parameters that share a generator; part of what the projection is


@dataclass(frozen=True)
class Projection:
    """A matrix of random signs over sqrt(width), made anew in stripes whenever it is used.

    A stripe of parameters belongs to (root seed, stage, stripe), so the matrix is the same however
    much of it is held at a time, and none of it is kept. ``held`` parameters are held at a time.

    Raises:
        BegatError: there are not more parameters than numbers to keep.
    """

    seed: int
    stage: str
    parameters: int
    width: int
    held: int = 4096

    def __post_init__(self) -> None:
        """Raise BegatError where projecting would only add noise."""
        if self.width > self.parameters:
            raise BegatError(
                f"projection: expected at most the {self.parameters} parameters of the gradient, "
                f"found {self.width}; leave the projection out to use the gradients themselves"
            )

    def __call__(self, rows: Float[Tensor, "row parameter"]) -> Float[Tensor, "row feature"]:
        """The rows, projected."""
        found = rows.new_zeros(len(rows), self.width)
        stripes = max(1, self.held // STRIPE)
        for first in range(0, -(-self.parameters // STRIPE), stripes):
            signs = torch.cat([self._stripe(i) for i in range(first, first + stripes)])
            part = rows[:, first * STRIPE : first * STRIPE + len(signs)]
            found += part @ signs[: part.shape[1]].to(rows)
        return found / self.width**0.5

    def _stripe(self, number: int) -> Float[Tensor, "parameter feature"]:
        generator = numpy_generator(self.seed, self.stage, "projection", number)
        bits = np.unpackbits(generator.integers(0, 256, (STRIPE, -(-self.width // 8)), np.uint8), 1)
        return torch.from_numpy(bits[:, : self.width].astype(np.float32) * 2 - 1)
