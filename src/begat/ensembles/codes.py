"""Constant-weight binary codes that assign training units to the members of an ensemble.

All codewords of one ensemble are distinct and have the same number of ones, so none contains
another (they form an antichain), and ablating one unit leaves every other unit in at least one
surviving member.
Source: Dai & Gifford, arXiv 2306.02174, section 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from begat.ensembles.codewords import Codes, codeword_count, codewords
from begat.ensembles.hadamard_matrices import hadamard_matrix
from begat.errors import BegatError
from begat.rng.seeds import numpy_generator

MAX_RANDOM_MEMBERS = 66  # of one random block: ranks of longer codewords exceed 64 bits
MAX_HADAMARD_MEMBERS = 2048  # of one Hadamard block: designs are for few units
ATTEMPTS = 1000  # random draws of a block before it is given up
DESIGNS = 256  # random Hadamard designs, of which the most balanced is taken


def random_codes(root: int, name: str, units: int, members: int) -> Codes:
    """Returns distinct codewords, uniform among those with half the bits set, as published.

    Raises:
        BegatError: there are fewer such codewords than units.
    """
    random_blocks(units, members)

    def draw(generator: np.random.Generator) -> Codes:
        ranks = generator.choice(codeword_count(members), units, replace=False)
        return codewords(ranks, members, members // 2)

    return _without_empty_members(draw, root, name, 0)


def _without_empty_members(
    draw: Callable[[np.random.Generator], Codes], root: int, name: str, block: int
) -> Codes:
    """Returns the first draw in which every member trains on a unit; few units may miss one.

    Raises:
        BegatError: no such draw in ``ATTEMPTS``.
    """
    for attempt in range(ATTEMPTS):
        codes = draw(numpy_generator(root, name, "block", block, attempt))
        if codes.any(0).all():
            return codes
    raise BegatError(f"{len(codes)} units are too few for every member to get one")


def random_blocks(units: int, members: int) -> list[int]:
    """Returns one block of all members.

    Raises:
        BegatError: it has fewer codewords than units, or too many members.
    """
    least = next(n for n in range(2, MAX_RANDOM_MEMBERS) if codeword_count(n) >= units)
    if not least <= members <= MAX_RANDOM_MEMBERS:
        raise BegatError(
            f"{units} units need {least} to {MAX_RANDOM_MEMBERS} members, found {members}"
        )
    return [members]


def nested_codes(root: int, name: str, units: int, members: int) -> Codes:
    """Returns extensible codes: the first bits of a longer code are the shorter code.

    The first block has as few members as have enough codewords and is drawn like ``random_codes``;
    every further pair of members partitions the units by a fair coin per unit. So weights stay
    equal and codewords distinct, and adding members leaves the training sets of the earlier ones
    as they are.

    Raises:
        BegatError: the members are odd in number or fewer than the first block.
    """
    first, *pairs = nested_blocks(units, members)
    blocks = [random_codes(root, name, units, first)]

    def partition(generator: np.random.Generator) -> Codes:
        side = generator.integers(0, 2, units).astype(bool)
        return np.stack([side, ~side], 1)

    for pair in range(1, len(pairs) + 1):
        blocks.append(_without_empty_members(partition, root, name, pair))
    return np.concatenate(blocks, 1)


def nested_blocks(units: int, members: int) -> list[int]:
    """Returns the members per block of a nested code: one with enough codewords, then pairs.

    Raises:
        BegatError: the members are odd in number or fewer than the first block.
    """
    first = _first_nested_block(units)
    if members % 2 or members < first:
        raise BegatError(
            f"{units} units need an even number of at least {first} members, found {members}"
        )
    return [first] + [2] * ((members - first) // 2)


def _first_nested_block(units: int) -> int:
    return next(n for n in range(2, MAX_RANDOM_MEMBERS, 2) if codeword_count(n) >= units)


def hadamard_codes(root: int, name: str, units: int, members: int) -> Codes:
    """Returns orthogonal codes for few units: every pair shares a quarter of the members.

    Codewords are columns of a Hadamard matrix, so the members with a unit and those without it
    have trained on each *other* unit equally often, and one unit's effect does not leak into
    another's difference of means. Columns are complemented at random (which keeps weights and
    overlaps) so that no member trains on all units or none. Several independent blocks make a
    longer code.

    Raises:
        BegatError: too few units, or members that are no multiple of the block they need.
    """
    blocks = hadamard_blocks(units, members)
    designs = [
        _hadamard_design(numpy_generator(root, name, "block", index), units, block)
        for index, block in enumerate(blocks)
    ]
    return np.concatenate(designs, 1)


def hadamard_blocks(units: int, members: int) -> list[int]:
    """Returns the members per block of a Hadamard design for this many units.

    Beside the mean, at least one column stays unused: p-values are estimated from it
    (``ensembles.null_codes.residual_directions``).

    Raises:
        BegatError: too few or too many units, or members that are no multiple of the block.
    """
    if units < 4:
        raise BegatError(
            f"hadamard codes need at least 4 units, found {units} (with fewer, some member trains "
            "on none); use nested or random"
        )
    orders = range(units // 4 * 4, MAX_HADAMARD_MEMBERS + 1, 4)
    block = next((n for n in orders if n > units + 1 and hadamard_matrix(n) is not None), 0)
    if not block:
        raise BegatError(f"{units} units are too many for hadamard codes; use nested")
    if members < block or members % block:
        below = members // block * block
        nearest = " or ".join(str(n) for n in (below, below + block) if n)
        raise BegatError(
            f"{units} units need a multiple of {block} members ({nearest}), found {members}"
        )
    return [block] * (members // block)


def _hadamard_design(generator: np.random.Generator, units: int, members: int) -> Codes:
    """Returns, of ``DESIGNS`` random choices of columns and signs, the most balanced one."""
    matrix = hadamard_matrix(members)
    assert matrix is not None
    designs = []
    for _ in range(DESIGNS):
        columns = generator.permutation(np.arange(1, members))[:units]
        signs = generator.choice([-1, 1], units)
        designs.append((matrix[generator.permutation(members)][:, columns] * signs).T > 0)
    return min(designs, key=lambda codes: (not _is_mixed(codes), codes.sum(0).std()))


def _is_mixed(codes: Codes) -> bool:
    """Returns whether every member trains on at least one unit and not on all."""
    return bool(codes.any(0).all() and (~codes).any(0).all())


def check_codes(codes: Codes) -> None:
    """Raise BegatError where codes break a condition of ablation (see the module)."""
    if len(np.unique(codes, axis=0)) < len(codes):
        raise BegatError("two units share one code, so no member can distinguish them")
    if codes.all(1).any():
        raise BegatError(f"every member trains on unit {int(codes.all(1).argmax())}")
    if not codes.any(1).all():
        raise BegatError(f"no member trains on unit {int((~codes.any(1)).argmax())}")
    if not codes.any(0).all():
        raise BegatError(f"member {int((~codes.any(0)).argmax())} has nothing to train on")
    if len(np.unique(codes.sum(1))) > 1:
        raise BegatError("units have codes of unequal weight")


class CodeFamily(NamedTuple):
    """One way to code an ensemble.

    Attributes:
        generate: (root seed, name of the ensemble, units, members) -> codes.
        blocks: (units, members) -> members per independently coded block.
    """

    generate: Callable[[int, str, int, int], Codes]
    blocks: Callable[[int, int], list[int]]


CODES = {
    "random": CodeFamily(random_codes, random_blocks),
    "nested": CodeFamily(nested_codes, nested_blocks),
    "hadamard": CodeFamily(hadamard_codes, hadamard_blocks),
}


def ensemble_codes(code: str, root: int, name: str, units: int, members: int) -> Codes:
    """Returns the checked codes of the ensemble ``name``; ``code`` is a key of ``CODES``.

    Raises:
        BegatError: numbers this code does not support, or codes that break a condition.
    """
    codes = CODES[code].generate(root, name, units, members)
    check_codes(codes)
    return codes


def code_blocks(code: str, units: int, members: int) -> list[int]:
    """Returns the members per independently coded block of an ensemble.

    Raises:
        BegatError: numbers this code does not support.
    """
    return CODES[code].blocks(units, members)


def fitting_code(units: int, members: int) -> str:
    """Returns ``hadamard`` where it supports these numbers, else ``nested``."""
    try:
        hadamard_blocks(units, members)
    except BegatError:
        return "nested"
    return "hadamard"


def fitting_members(units: int, members: int) -> int:
    """Returns the least number of members, at least ``members``, that a nested code supports.

    At least one codeword stays unused, for the p-values (``ensembles.null_codes.null_codes``).
    """
    first = _first_nested_block(units)
    members = max(members + members % 2, first)
    return members + 2 if members == first and codeword_count(first) == units else members
