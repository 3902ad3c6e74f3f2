"""Declaration of a scoring method: its names, unit and sign."""

from dataclasses import dataclass

from begat.evaluation.measures import Measure


@dataclass(frozen=True)
class Method:
    """One scoring method, as tables and pages name it.

    Attributes:
        label: its name for readers.
        description: what its scores are, in one sentence.
        measure: unit and sign of its scores.
        of: the units that it scores: ``images``, ``groups`` or ``both``.
        headline: whether tables show it first; the others are its variants.
    """

    label: str
    description: str
    measure: Measure
    of: str = "both"
    headline: bool = False
