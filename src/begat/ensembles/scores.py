"""Ablation scores of encoded ensembles, with p-values and standard deviations under the null."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from begat.ensembles.ablation import (
    CONTRASTS,
    Contrast,
    Gram,
    Scores,
    p_values,
    residual_null,
    student_p_values,
)
from begat.ensembles.codes import code_blocks
from begat.ensembles.codewords import Codes
from begat.ensembles.null_codes import null_codes, residual_directions
from begat.errors import BegatError
from begat.rng.seeds import numpy_generator

NULLS = {"random": "unused codes", "nested": "unused codes", "hadamard": "residuals"}
Arrays = dict[str, Scores]  # score, p_value, uncertainty


def score(
    gram: Gram, exposure: Codes, code: str, *, seed: int, level: str, null_samples: int
) -> dict[str, Float[np.ndarray, "method query unit"]]:
    """Returns ``score``, ``p_value`` and ``uncertainty`` of every contrast and unit.

    The null is the score that differences between members alone give a unit without effect.
    Random codes overlap by chance, so other units contribute to a score as well: there the null is
    the score of codes of no unit, drawn like the units' own. With Hadamard codes the other units
    cancel, so the null is Student's t with the residuals of the orthogonal regression.

    Args:
        gram: the members' Gram matrices.
        exposure: true where a member was trained on a unit.
        code: of the ensemble, a key of ``ensembles.codes.CODES``.
        seed: the root seed.
        level: ``image`` or ``group``, part of the name of the null's random numbers.
        null_samples: the number of null codes.

    Raises:
        BegatError: no code or direction is left unused, or the numbers of members trained on each
            unit differ.
    """
    _check_equal_exposure(exposure, level)
    if NULLS[code] == "residuals":
        rows = _with_residuals(gram, exposure)
    else:
        generator = numpy_generator(seed, "scores_ensemble", level)
        blocks = code_blocks(code, *exposure.shape)
        nulls = null_codes(generator, exposure, blocks, null_samples)
        rows = _with_null_codes(gram, exposure, nulls)
    if rows is None:
        raise BegatError(
            f"splits: every {level} code is in use, none is left for p-values; add members"
        )
    arrays = [rows(contrast) for contrast in CONTRASTS.values()]
    return {name: np.stack([row[name] for row in arrays]) for name in arrays[0]}


def _check_equal_exposure(exposure: Codes, level: str) -> None:
    counts = exposure.sum(1)
    if len(np.unique(counts)) > 1:
        raise BegatError(
            f"scores_ensemble: {counts.min()} to {counts.max()} members were trained on units of "
            f"the {level} level; p-values need equal numbers (do groups overlap?)"
        )


def _with_null_codes(
    gram: Gram, exposure: Codes, nulls: Bool[np.ndarray, "null member"]
) -> Callable[[Contrast], Arrays] | None:
    """Returns the scores by contrast against those of null codes, None where there are none."""

    def arrays(contrast: Contrast) -> Arrays:
        scores, null = contrast(gram, exposure), contrast(gram, nulls)
        return _arrays(scores, p_values(scores, null), null.std(1))

    return arrays if len(nulls) else None


def _with_residuals(gram: Gram, exposure: Codes) -> Callable[[Contrast], Arrays] | None:
    """Returns the scores by contrast against residuals, None where no direction is left."""
    directions = residual_directions(exposure)

    def arrays(contrast: Contrast) -> Arrays:
        scores = contrast(gram, exposure)
        mean, deviation = residual_null(contrast, gram, directions)
        p_value = student_p_values(scores, mean, deviation, len(directions))
        return _arrays(scores, p_value, deviation)

    return arrays if len(directions) else None


def _arrays(scores: Scores, p_value: Scores, deviation: Float[np.ndarray, " query"]) -> Arrays:
    uncertainty = np.broadcast_to(deviation[:, None], scores.shape)
    return {"score": scores, "p_value": p_value, "uncertainty": uncertainty}
