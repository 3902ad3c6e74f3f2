"""Codes: which member of an ensemble trains on which unit.

A code is a binary word with one bit per member; 1 = that member trains on the unit. All words of
one ensemble are distinct and have the same number of ones, so no word contains another (they form
an antichain) and ablating one unit leaves every other unit in at least one surviving member.
Source: Dai & Gifford, arXiv 2306.02174, section 3.
"""

import math
from collections.abc import Callable, Iterable
from typing import SupportsIndex

import numpy as np
from jaxtyping import Bool, Int

from begat.errors import BegatError
from begat.rng.seeds import numpy_generator

Codes = Bool[np.ndarray, "unit member"]
MOST_DRAWN = 66  # members of one random block: the words of more are too many to be numbered
MOST_DESIGNED = 2048  # members of one Hadamard block: it is for few units


def capacity(members: int) -> int:
    """How many distinct words with ``members // 2`` ones there are."""
    return math.comb(members, members // 2)


def word(rank: int, members: int, weight: int) -> list[int]:
    """The positions of the ones in word number ``rank`` of all words of this weight.

    Words are numbered in the combinatorial number system: rank = sum_i C(position_i, i + 1).
    """
    positions = []
    for ones in range(weight, 0, -1):
        position = ones - 1
        while math.comb(position + 1, ones) <= rank:
            position += 1
        rank -= math.comb(position, ones)
        positions.append(position)
    return positions


def words(ranks: Iterable[SupportsIndex], members: int, weight: int) -> Codes:
    """The words with these numbers, as rows of bits."""
    positions = [word(int(rank), members, weight) for rank in ranks]
    bits = np.zeros((len(positions), members), bool)
    np.put_along_axis(bits, np.array(positions, int).reshape(-1, weight), True, axis=1)
    return bits


def random_codes(root: int, name: str, units: int, members: int) -> Codes:
    """Distinct words, uniformly drawn among those with half the bits set, as published.

    Raises:
        BegatError: there are fewer such words than units.
    """
    random_blocks(units, members)

    def draw(generator: np.random.Generator) -> Codes:
        ranks = generator.choice(capacity(members), units, replace=False)
        return words(ranks, members, members // 2)

    return _until_all_train(draw, root, name, 0)


def _until_all_train(
    draw: Callable[[np.random.Generator], Codes], root: int, name: str, block: int
) -> Codes:
    """The first drawing in which every member has a unit; with few units some leave one without."""
    for attempt in range(1000):
        codes = draw(numpy_generator(root, name, "block", block, attempt))
        if codes.any(0).all():
            return codes
    raise BegatError(f"{len(codes)} units are too few for every member to get one")


def random_blocks(units: int, members: int) -> list[int]:
    """One block of all members, if it has enough words for the units."""
    least = next(n for n in range(2, MOST_DRAWN) if capacity(n) >= units)
    if not least <= members <= MOST_DRAWN:
        raise BegatError(f"{units} units need {least} to {MOST_DRAWN} members, found {members}")
    return [members]


def nested_codes(root: int, name: str, units: int, members: int) -> Codes:
    """Words that grow: the first bits of a longer code are the shorter code.

    The first block has as few members as have enough words and is drawn like ``random_codes``;
    every further pair of members shares the units out between its two, by a fair coin per unit.
    So weights stay equal and words distinct, and members can be added without changing what the
    earlier ones train on.

    Raises:
        BegatError: the members are odd in number or fewer than the first block.
    """
    first, *pairs = nested_blocks(units, members)
    parts = [random_codes(root, name, units, first)]

    def toss(generator: np.random.Generator) -> Codes:
        side = generator.integers(0, 2, units).astype(bool)
        return np.stack([side, ~side], 1)

    for pair in range(1, len(pairs) + 1):
        parts.append(_until_all_train(toss, root, name, pair))
    return np.concatenate(parts, 1)


def nested_blocks(units: int, members: int) -> list[int]:
    """Members per block of a nested code: one block with enough words, then pairs."""
    first = next(n for n in range(2, MOST_DRAWN, 2) if capacity(n) >= units)
    if members % 2 or members < first:
        raise BegatError(
            f"{units} units need an even number of at least {first} members, found {members}"
        )
    return [first] + [2] * ((members - first) // 2)


def _prime(q: int) -> bool:
    return q > 1 and all(q % d for d in range(2, math.isqrt(q) + 1))


def hadamard_matrix(order: int) -> Int[np.ndarray, "row column"] | None:
    """A Hadamard matrix with a first column of ones, or None where no construction here fits.

    Sylvester's doubling and Paley's first and second constructions over prime fields.
    """
    if order in (1, 2):
        return np.array([[1, 1], [1, -1]])[:order, :order]
    matrix = None
    if order % 4 == 0 and _prime(order - 1):
        q = order - 1
        matrix = np.eye(order, dtype=int) + _bordered(q, -1)
    elif order % 4 == 0 and _prime(order // 2 - 1) and order // 2 % 4 == 2:
        q = order // 2 - 1
        matrix = np.kron(_bordered(q, 1), [[1, 1], [1, -1]])
        matrix += np.kron(np.eye(q + 1, dtype=int), [[1, -1], [-1, -1]])
    elif order % 2 == 0 and (half := hadamard_matrix(order // 2)) is not None:
        matrix = np.kron([[1, 1], [1, -1]], half)
    return None if matrix is None else matrix * matrix[:, :1]


def _bordered(q: int, lower: int) -> Int[np.ndarray, "row column"]:
    """The quadratic-residue matrix of the field of q elements with a border of ones."""
    residue = -np.ones(q, int)
    residue[np.arange(1, q) ** 2 % q] = 1
    residue[0] = 0
    border = np.zeros((q + 1, q + 1), int)
    border[0, 1:] = 1
    border[1:, 0] = lower
    border[1:, 1:] = residue[np.subtract.outer(np.arange(q), np.arange(q)) % q]
    return border


def hadamard_blocks(units: int, members: int) -> list[int]:
    """Members per block of a Hadamard design with room for this many units.

    Beside the mean, one column at least stays free: from what it finds follow the p-values
    (``ensembles.null_codes.residual_directions``).
    """
    if units < 4:
        raise BegatError(
            f"hadamard codes need at least 4 units, found {units} (with fewer some member sees "
            "none); use nested or random"
        )
    orders = range(units // 4 * 4, MOST_DESIGNED + 1, 4)
    fit = (n for n in orders if n > units + 1 and hadamard_matrix(n) is not None)
    block = next(fit, 0)
    if not block:
        raise BegatError(f"{units} units are too many for hadamard codes; use nested")
    if members < block or members % block:
        below = members // block * block
        nearest = " or ".join(str(n) for n in (below, below + block) if n)
        raise BegatError(
            f"{units} units need a multiple of {block} members ({nearest}), found {members}"
        )
    return [block] * (members // block)


def hadamard_codes(root: int, name: str, units: int, members: int) -> Codes:
    """Designed codes for few units: every pair of units shares exactly a quarter of the members.

    Columns of a Hadamard matrix, so each surviving set of members has seen every *other* unit
    exactly as often as the removed set has, and one unit's effect does not leak into another's
    difference of means. Columns are complemented at random (which keeps weights and overlaps) so
    that no member sees all units or none. Several independent blocks make a longer code.

    Raises:
        BegatError: too few units, or members that are no multiple of the block they need.
    """
    blocks = hadamard_blocks(units, members)
    return np.concatenate(
        [
            _hadamard_design(numpy_generator(root, name, "block", b), units, block)
            for b, block in enumerate(blocks)
        ],
        1,
    )


def _hadamard_design(generator: np.random.Generator, units: int, members: int) -> Codes:
    """Of many random choices of columns and signs, the one that shares units out most evenly."""
    matrix = hadamard_matrix(members)
    assert matrix is not None
    designs = []
    for _ in range(256):
        columns = generator.permutation(np.arange(1, members))[:units]
        signs = generator.choice([-1, 1], units)
        designs.append((matrix[generator.permutation(members)][:, columns] * signs).T > 0)
    return min(designs, key=lambda codes: (not _mixed(codes), codes.sum(0).std()))


def _mixed(codes: Codes) -> bool:
    """Whether every member sees some units and not all."""
    return bool(codes.any(0).all() and (~codes).any(0).all())


def check_codes(codes: Codes) -> None:
    """Raise BegatError where a code breaks a promise that ablation rests on."""
    if len(np.unique(codes, axis=0)) < len(codes):
        raise BegatError("two units share one code, so no member can tell them apart")
    if codes.all(1).any():
        raise BegatError(f"unit {int(codes.all(1).argmax())} was seen by every member")
    if not codes.any(1).all():
        raise BegatError(f"unit {int((~codes.any(1)).argmax())} was seen by no member")
    if not codes.any(0).all():
        raise BegatError(f"member {int((~codes.any(0)).argmax())} has nothing to train on")
    if len(np.unique(codes.sum(1))) > 1:
        raise BegatError("units have codes of unequal weight")


def code_blocks(code: str, units: int, members: int) -> list[int]:
    """How an ensemble's members fall into independently coded blocks.

    Raises:
        BegatError: this code cannot serve so many units with so many members.
    """
    return CODES[code][1](units, members)


def fitting_code(units: int, members: int) -> str:
    """The code for so many units: ``hadamard`` where these members make one, else ``nested``."""
    try:
        hadamard_blocks(units, members)
    except BegatError:
        return "nested"
    return "hadamard"


def fitting_members(units: int, members: int) -> int:
    """The least number of members, at least ``members``, that a nested code can have.

    One word at least stays unused, for the p-values (``ensembles.null_codes.unused_codes``).
    """
    first = next(n for n in range(2, MOST_DRAWN, 2) if capacity(n) >= units)
    members = max(members + members % 2, first)
    return members + 2 if members == first and capacity(first) == units else members


def ensemble_codes(code: str, root: int, name: str, units: int, members: int) -> Codes:
    """The checked codes of an ensemble called ``name``; ``code`` is a key of ``CODES``.

    Raises:
        BegatError: impossible numbers, or a code that breaks a promise.
    """
    codes = CODES[code][0](root, name, units, members)
    check_codes(codes)
    return codes


CODES = {
    "random": (random_codes, random_blocks),
    "nested": (nested_codes, nested_blocks),
    "hadamard": (hadamard_codes, hadamard_blocks),
}
