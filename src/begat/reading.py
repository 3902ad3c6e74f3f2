"""Scores of a finished or half-finished run, read from those artifacts that are up to date."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from begat.errors import BegatError, brief
from begat.evaluation.group_scores import Row, group_rows
from begat.evaluation.measures import Measure
from begat.execution import results
from begat.execution.contents import Contents
from begat.execution.jobs import Name, path_of
from begat.planning.freshness import why
from begat.planning.plan import Plan
from begat.reporting.method_names import SUMMED, MethodNames
from begat.storage.artifacts import Artifact


@dataclass(frozen=True)
class Scores:
    """One method's scores of all units for all queries.

    Attributes:
        values: the scores.
        p_values: probability of a score at least as high without an effect; None if not tested.
        measure: unit and sign of the scores.
    """

    values: Float[np.ndarray, "query unit"]
    p_values: Float[np.ndarray, "query unit"] | None
    measure: Measure


class CurrentArtifacts:
    """Access to those artifacts of a run that are up to date, as ``execution.results`` needs it."""

    def __init__(self, root: Path, names: Collection[Name]) -> None:
        """Store the names of the artifacts that may be read."""
        self._root, self._names = root, names

    def input(self, stage: str, name: str = "all") -> Artifact:
        """Returns an artifact.

        Raises:
            BegatError: it is missing, damaged or out of date.
        """
        path = path_of(stage, name)
        if (stage, name) not in self._names:
            raise BegatError(f"{path}: expected an up-to-date artifact; run `begat run`")
        return Artifact(self._root / path, stage)

    def inputs(self, stage: str, prefix: str = "") -> list[Artifact]:
        """Returns all artifacts of a stage whose names begin with ``prefix``."""
        names = [n for n in self._names if n[0] == stage and n[1].startswith(prefix)]
        return [self.input(*name) for name in names]

    def scores(self) -> list[Artifact]:
        """Returns the artifacts of all scoring stages."""
        return [self.input(*name) for name in self._names if name[0].startswith("scores_")]


class Results:
    """Scores, queries and training images of a run.

    Scores that are missing or out of date are left out; the attribute ``missing`` lists them.

    Attributes:
        missing: name of a scoring stage, without ``scores_`` -> why it is not up to date.
        names: labels and order of the methods.
    """

    def __init__(self, plan: Plan) -> None:
        """Compare the artifacts of a plan with what they should be."""
        contents = Contents(plan.root)
        names: list[Name] = [("images", "all"), *plan.names("queries"), *plan.scores()]
        reasons = {name: why(plan, plan.job(*name), contents) for name in names}
        self._current = CurrentArtifacts(plan.root, [n for n in names if not reasons[n]])
        self._dataset, self.names = plan.spec.dataset, MethodNames(plan.methods)
        self.missing = {
            stage.removeprefix("scores_"): reason
            for (stage, _), reason in reasons.items()
            if reason and stage.startswith("scores_")
        }

    @property
    def images(self) -> list[str]:
        """The file names of the training images, each with its groups in brackets."""
        groups = map(", ".join, self._dataset.group_names)
        pairs = zip(self._dataset.names, groups, strict=True)
        return [f"{name} ({group})" if group else name for name, group in pairs]

    @property
    def groups(self) -> list[str]:
        """The names of the groups."""
        return list(self._dataset.groups)

    @cached_property
    def queries(self) -> list[str]:
        """The names of the queries that are up to date; empty where they have none."""
        return results.query_names(self._current)

    @property
    def methods(self) -> list[str]:
        """The methods that score images: headline methods first, then their variants."""
        return self.names.ordered(self._image_scores)

    @property
    def group_methods(self) -> list[str]:
        """The methods that score groups, sums of image scores included, in the same order."""
        return self.names.ordered(self._group_scores)

    def scores(self, method: str) -> Scores:
        """Returns a method's scores of images.

        Raises:
            BegatError: there are no such scores.
        """
        return self._select(method, self._image_scores)

    def group_scores(self, method: str) -> Scores:
        """Returns a method's scores of groups.

        Raises:
            BegatError: there are no such scores.
        """
        return self._select(method, self._group_scores)

    def _select(self, method: str, scores: dict[str, Scores]) -> Scores:
        if method not in scores:
            available = ", ".join(self.names.ordered(scores)) or "none; run `begat run`"
            raise BegatError(f"{brief(method)}: expected a method with scores: {available}")
        return scores[method]

    @cached_property
    def _measures(self) -> dict[str, Measure]:
        return results.measures(self._current)

    @cached_property
    def _image_scores(self) -> dict[str, Scores]:
        tables = results.image_scores(self._current).items()
        return {method: Scores(*table, self._measures[method]) for method, table in tables}

    @cached_property
    def _group_scores(self) -> dict[str, Scores]:
        rows = dict[str, Row]()
        if self._current.scores():
            member_of = self._current.input("images")["member_of"]
            for part in results.group_parts(self._current):
                rows |= group_rows(*part, member_of)
        p_values = results.group_p_values(self._current)
        return {
            method: Scores(
                values, p_values.get(method), self._measures[method.removesuffix(SUMMED)]
            )
            for method, (values, _) in rows.items()
        }
