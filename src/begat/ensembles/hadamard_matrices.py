"""Hadamard matrices by the constructions of Sylvester and Paley."""

import math

import numpy as np
from jaxtyping import Int

Matrix = Int[np.ndarray, "row column"]


def hadamard_matrix(order: int) -> Matrix | None:
    """Returns a Hadamard matrix with a first column of ones, None where no construction here fits.

    Sylvester's doubling, and Paley's first and second constructions over prime fields.
    """
    if order in (1, 2):
        return np.array([[1, 1], [1, -1]])[:order, :order]
    matrix = None
    if order % 4 == 0 and _is_prime(order - 1):
        q = order - 1
        matrix = np.eye(order, dtype=int) + _bordered_residues(q, -1)
    elif order % 4 == 0 and _is_prime(order // 2 - 1) and order // 2 % 4 == 2:
        q = order // 2 - 1
        matrix = np.kron(_bordered_residues(q, 1), [[1, 1], [1, -1]])
        matrix += np.kron(np.eye(q + 1, dtype=int), [[1, -1], [-1, -1]])
    elif order % 2 == 0 and (half := hadamard_matrix(order // 2)) is not None:
        matrix = np.kron([[1, 1], [1, -1]], half)
    return None if matrix is None else matrix * matrix[:, :1]


def _bordered_residues(q: int, lower: int) -> Matrix:
    """Returns the quadratic-residue matrix of the field of q elements with a border of ones.

    ``lower`` is the value of the left border: 1 for a symmetric, -1 for a skew matrix.
    """
    residue = -np.ones(q, int)
    residue[np.arange(1, q) ** 2 % q] = 1
    residue[0] = 0
    bordered = np.zeros((q + 1, q + 1), int)
    bordered[0, 1:] = 1
    bordered[1:, 0] = lower
    bordered[1:, 1:] = residue[np.subtract.outer(np.arange(q), np.arange(q)) % q]
    return bordered


def _is_prime(q: int) -> bool:
    return q > 1 and all(q % d for d in range(2, math.isqrt(q) + 1))
