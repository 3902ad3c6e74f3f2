"""Scores from encoded ensembles: drop the members that saw a unit, and see what changes."""

import numpy as np
from jaxtyping import Float, Int

from begat.core.codes import Codes
from begat.core.ensembles import CONTRASTS, Gram, p_values
from begat.core.nulls import unused_codes
from begat.core.seeds import numpy_generator
from begat.errors import BegatError


def score(
    gram: Gram, seen: Codes, blocks: list[int], *, seed: int, level: str, nulls: int
) -> dict[str, Float[np.ndarray, "method query unit"]]:
    """Every contrast's score of every unit, with its p-value and its spread under the null.

    The null is the score of codes that no unit holds, drawn like the units' own: they show what
    member-to-member differences and the other units do to a score by themselves.

    Args:
        gram: the members' Gram matrices.
        seen: which member was trained on which unit.
        blocks: the independently coded blocks of members.
        seed: the root seed.
        level: ``image`` or ``group``: whose null this is.
        nulls: how many unused codes to draw.

    Raises:
        BegatError: no code is left unused, or units were seen by unequal numbers of members.
    """
    weights = seen.sum(1)
    if len(np.unique(weights)) > 1:
        raise BegatError(
            f"scores_ensemble: units of the {level} level were seen by {weights.min()} to "
            f"{weights.max()} members; p-values need equal numbers (do groups overlap?)"
        )
    unused = unused_codes(numpy_generator(seed, "scores_ensemble", level), seen, blocks, nulls)
    if not len(unused):
        raise BegatError(
            f"splits: every {level} code is in use, none is left for p-values; add members"
        )
    scores = [contrast(gram, seen) for contrast in CONTRASTS.values()]
    null = [contrast(gram, unused) for contrast in CONTRASTS.values()]
    return {
        "score": np.stack(scores),
        "p_value": np.stack([p_values(s, n) for s, n in zip(scores, null, strict=True)]),
        "uncertainty": np.stack(
            [
                np.broadcast_to(n.std(1, keepdims=True), s.shape)
                for s, n in zip(scores, null, strict=True)
            ]
        ),
    }


def spread_out(
    distance: Float[np.ndarray, "query slot"], unit: Int[np.ndarray, "query slot"], units: int
) -> Float[np.ndarray, "query unit"]:
    """Distances of the units that were redrawn without, NaN for all others."""
    table = np.full((len(unit), units), np.nan, np.float32)
    np.put_along_axis(table, unit.astype(np.int64), distance, 1)
    return table
