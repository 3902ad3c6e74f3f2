"""Scores from encoded ensembles: drop the members that saw a unit, and see what changes."""

import numpy as np
from jaxtyping import Bool, Float, Int

from begat.ensembles.ablation import (
    CONTRASTS,
    Gram,
    null_by_residuals,
    p_values,
    student_p_values,
)
from begat.ensembles.codes import Codes, code_blocks
from begat.ensembles.null_codes import residual_directions, unused_codes
from begat.errors import BegatError
from begat.rng.seeds import numpy_generator

NULLS = {"random": "unused codes", "nested": "unused codes", "hadamard": "residuals"}
Found = dict[str, Float[np.ndarray, "query unit"]]


def score(
    gram: Gram, seen: Codes, code: str, *, seed: int, level: str, nulls: int
) -> dict[str, Float[np.ndarray, "method query unit"]]:
    """Every contrast's score of every unit, with its p-value and its spread under the null.

    The null is what member-to-member differences do to the score of a unit without effect. Random
    codes overlap by chance, so other units reach into a score as well: there the null is the score
    of codes that no unit holds, drawn like the units' own. Hadamard codes keep the others out,
    and so does their null: Student's t with the residuals of the orthogonal regression.

    Args:
        gram: the members' Gram matrices.
        seen: which member was trained on which unit.
        code: how the ensemble was coded, a key of ``ensembles.codes.CODES``.
        seed: the root seed.
        level: ``image`` or ``group``: whose null this is.
        nulls: how many unused codes to draw.

    Raises:
        BegatError: no code or direction is left unused, or units were seen by unequal numbers of
            members.
    """
    weights = seen.sum(1)
    if len(np.unique(weights)) > 1:
        raise BegatError(
            f"scores_ensemble: units of the {level} level were seen by {weights.min()} to "
            f"{weights.max()} members; p-values need equal numbers (do groups overlap?)"
        )
    if NULLS[code] == "residuals":
        found = _against_residuals(gram, seen)
    else:
        generator = numpy_generator(seed, "scores_ensemble", level)
        blocks = code_blocks(code, *seen.shape)
        found = _against_codes(gram, seen, unused_codes(generator, seen, blocks, nulls))
    if not found:
        raise BegatError(
            f"splits: every {level} code is in use, none is left for p-values; add members"
        )
    return {name: np.stack([row[name] for row in found]) for name in found[0]}


def _against_codes(gram: Gram, seen: Codes, unused: Bool[np.ndarray, "null member"]) -> list[Found]:
    found = []
    for contrast in CONTRASTS.values() if len(unused) else ():
        scores, null = contrast(gram, seen), contrast(gram, unused)
        found.append(_row(scores, p_values(scores, null), null.std(1)))
    return found


def _against_residuals(gram: Gram, seen: Codes) -> list[Found]:
    directions, found = residual_directions(seen), []
    for contrast in CONTRASTS.values() if len(directions) else ():
        scores = contrast(gram, seen)
        mean, spread = null_by_residuals(contrast, gram, directions)
        p_value = student_p_values(scores, mean, spread, len(directions))
        found.append(_row(scores, p_value, spread))
    return found


def _row(
    scores: Float[np.ndarray, "query unit"],
    p_value: Float[np.ndarray, "query unit"],
    spread: Float[np.ndarray, " query"],
) -> Found:
    uncertainty = np.broadcast_to(spread[:, None], scores.shape)
    return {"score": scores, "p_value": p_value, "uncertainty": uncertainty}


def spread_out(
    distance: Float[np.ndarray, "query slot"], unit: Int[np.ndarray, "query slot"], units: int
) -> Float[np.ndarray, "query unit"]:
    """Distances of the units that were redrawn without, NaN for all others."""
    table = np.full((len(unit), units), np.nan, np.float32)
    np.put_along_axis(table, unit.astype(np.int64), distance, 1)
    return table
