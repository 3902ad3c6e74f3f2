"""One declaration per stage, and their registry in the order of the pipeline.

A stage is a module of this package with a ``STAGE``; nothing else lists it.
"""

import importlib
import pkgutil
from collections.abc import Mapping

from begat.config.schema import Params, with_sections
from begat.execution.methods import Method
from begat.stages.declaration import Stage


def _declared() -> dict[str, Stage]:
    names = (module.name for module in pkgutil.iter_modules(__path__, f"{__name__}."))
    modules = (importlib.import_module(name) for name in names)
    return {m.STAGE.name: m.STAGE for m in modules if hasattr(m, "STAGE")}


def in_order(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """Returns stages after those whose artifacts they read; scoring stages as late as they can."""
    ordered: dict[str, Stage] = {}
    while waiting := {n: s for n, s in stages.items() if n not in ordered}:
        ready = [n for n, s in waiting.items() if not set(s.inputs_among(stages)) & set(waiting)]
        first = min(ready, key=lambda name: (name.startswith("scores_"), name))
        ordered[first] = waiting[first]
    return ordered


STAGES = in_order(_declared())
METHODS: dict[str, Method] = {n: m for stage in STAGES.values() for n, m in stage.methods.items()}
PARAMS: type[Params] = with_sections(
    {stage.name: stage.section for stage in STAGES.values() if stage.section}
)
