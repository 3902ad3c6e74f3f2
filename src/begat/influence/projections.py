"""Random projections of gradients to fewer dimensions: inner products are kept in expectation."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from begat.errors import BegatError
from begat.rng.seeds import numpy_generator

STRIPE = 256  # parameters that share a generator; part of the definition of the projection


@dataclass(frozen=True)
class Projection:
    """A matrix of random signs over sqrt(width), generated in stripes whenever it is used.

    A stripe of parameters is a function of (root seed, stage, stripe), so that the matrix does not
    depend on ``max_rows``, how many parameters of it are in memory at a time; none of it is stored.

    Raises:
        BegatError: the projection is wider than the gradient.
    """

    seed: int
    stage: str
    parameters: int
    width: int
    max_rows: int = 4096

    def __post_init__(self) -> None:
        """Raise BegatError where projecting would only add noise."""
        if self.width > self.parameters:
            raise BegatError(
                f"projection: expected at most the {self.parameters} parameters of the gradient, "
                f"found {self.width}; leave the projection out to use the gradients themselves"
            )

    def __call__(self, rows: Float[Tensor, "row parameter"]) -> Float[Tensor, "row feature"]:
        """Returns the rows, projected."""
        projected = rows.new_zeros(len(rows), self.width)
        stripes = max(1, self.max_rows // STRIPE)
        for first in range(0, -(-self.parameters // STRIPE), stripes):
            signs = torch.cat([self._stripe(i) for i in range(first, first + stripes)])
            columns = rows[:, first * STRIPE : first * STRIPE + len(signs)]
            projected += columns @ signs[: columns.shape[1]].to(rows)
        return projected / self.width**0.5

    def _stripe(self, number: int) -> Float[Tensor, "parameter feature"]:
        generator = numpy_generator(self.seed, self.stage, "projection", number)
        bits = np.unpackbits(generator.integers(0, 256, (STRIPE, -(-self.width // 8)), np.uint8), 1)
        return torch.from_numpy(bits[:, : self.width].astype(np.float32) * 2 - 1)
