"""Training-data attribution for diffusion models, checked against retraining.

One convention for every score in this package::

    score[query, unit] = measurement of the query without the unit - measurement with it

A *query* is the image to explain; a *unit* is a training image or a group of them (class, artist,
contributor). The *measurement* is a loss, so a **positive score means the unit helped**: without
it, the model explains the query worse. The attribute ``measures`` of each artifact of scores
(``evaluation.measures``) gives each method's unit, and whether the sign (``signed``) and the size
(``calibrated``) have this meaning: similarities, magnitudes and centred scores only rank.

Public names, for notebooks and other programs (docs/python.md): ``open`` a finished run, or use
the parts that stand alone.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from begat.ensembles.codes import ensemble_codes as encode
    from begat.errors import BegatError
    from begat.evaluation.statistics import lds
    from begat.reading import Results, open
    from begat.standalone import ekfac, per_example_gradients
    from begat.unlearning.unlearn import unlearn

PUBLIC = {  # name: module and name there; imported when first used, as torch takes seconds
    "BegatError": ("begat.errors", "BegatError"),
    "Results": ("begat.reading", "Results"),
    "ekfac": ("begat.standalone", "ekfac"),
    "encode": ("begat.ensembles.codes", "ensemble_codes"),
    "lds": ("begat.evaluation.statistics", "lds"),
    "open": ("begat.reading", "open"),
    "per_example_gradients": ("begat.standalone", "per_example_gradients"),
    "unlearn": ("begat.unlearning.unlearn", "unlearn"),
}
__all__ = [
    "BegatError",
    "Results",
    "ekfac",
    "encode",
    "lds",
    "open",
    "per_example_gradients",
    "unlearn",
]


def __getattr__(name: str) -> Any:
    """Returns a public name, imported when it is first used."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'begat' has no attribute {name!r}")
    module, attribute = PUBLIC[name]
    return getattr(importlib.import_module(module), attribute)
