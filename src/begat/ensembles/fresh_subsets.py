"""Random subsets of images or groups that differ from subsets drawn before."""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Bool, Int

from begat.ensembles.model_specs import subset_size
from begat.errors import BegatError

Row = Bool[np.ndarray, " image"]
MAX_DRAWS = 1_000  # of one subset, before there is taken to be no other


def fresh_rows(
    committed: Bool[np.ndarray, "subset image"],
    training_row: Callable[[Bool[np.ndarray, " unit"]], Row],
    units: int,
    fraction: float,
    generators: Iterable[np.random.Generator],
) -> Bool[np.ndarray, "fresh image"]:
    """Returns one random training set per generator, unlike all others and the committed ones.

    Each is the first of its own draws that differs from all earlier ones and leaves an image to
    train on, so it does not depend on how many there are. The committed subsets were drawn in the
    same way, so that both together are exchangeable.

    Args:
        committed: the training sets that were drawn before.
        training_row: the images of the units in a subset.
        units: number of images (near-duplicates as one) or groups to draw from.
        fraction: of the units in a subset.
        generators: one for each training set.

    Raises:
        BegatError: there are no more different training sets.
    """
    used = {row.tobytes() for row in committed}
    rows: list[np.ndarray] = []
    for generator in generators:
        rows.append(_unused_row(used, training_row, units, fraction, generator))
        used.add(rows[-1].tobytes())
    return np.array(rows)


def _unused_row(
    used: set[bytes],
    training_row: Callable[[Bool[np.ndarray, " unit"]], Row],
    units: int,
    fraction: float,
    generator: np.random.Generator,
) -> Row:
    size = subset_size(units, fraction)
    for _ in range(MAX_DRAWS):
        subset = np.zeros(units, bool)
        subset[generator.permutation(units)[:size]] = True
        row = training_row(subset)
        if row.any() and row.tobytes() not in used:
            return row
    raise BegatError(
        f"subsets of {size} of {units} units: expected one unlike the {len(used)} drawn before, "
        f"found none in {MAX_DRAWS} draws; use fewer subsets"
    )


def rows_of_images(cluster: Int[np.ndarray, " image"]) -> tuple[int, Callable[[np.ndarray], Row]]:
    """Returns the number of units of images, near-duplicates as one, and a subset's images."""
    _, unit = np.unique(cluster, return_inverse=True)
    return int(unit.max()) + 1, lambda subset: subset[unit]


def rows_of_groups(
    member_of: Bool[np.ndarray, "group image"],
) -> tuple[int, Callable[[np.ndarray], Row]]:
    """Returns the number of groups, and the images all of whose groups are in a subset."""
    return len(member_of), lambda subset: ~member_of[~subset].any(0)
