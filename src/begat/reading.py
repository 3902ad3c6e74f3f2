"""Images, scores and models of a finished or half-finished run, from its up-to-date artifacts."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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

if TYPE_CHECKING:
    from diffusers import DDPMPipeline
    from xarray import DataArray

    from begat.diffusion.packed_network import PackedNetwork


def open(path: str | Path = ".", params_file: str | None = None) -> "Results":
    """Returns the results of the run in a project's folder.

    Args:
        path: the folder with ``params.yaml`` and ``results``.
        params_file: below it, if not the one that ``params.yaml`` names.

    Raises:
        BegatError: parameters or data that allow no such run.
    """
    return Results(Plan(Path(path).resolve(), params_file))


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
        names: list[Name] = [("images", "all"), ("metrics", "all")]
        names += [*plan.names("queries"), *plan.scores()]
        reasons = {name: why(plan, plan.job(*name), contents) for name in names}
        self._current = CurrentArtifacts(plan.root, [n for n in names if not reasons[n]])
        self._spec, self._dataset = plan.spec, plan.spec.dataset
        self.names = MethodNames(plan.methods)
        self.missing = {
            stage.removeprefix("scores_"): reason
            for (stage, _), reason in reasons.items()
            if reason and stage.startswith("scores_")
        }

    @property
    def image_names(self) -> list[str]:
        """The file names of the training images, each with its groups in brackets."""
        groups = map(", ".join, self._dataset.group_names)
        pairs = zip(self._dataset.names, groups, strict=True)
        return [f"{name} ({group})" if group else name for name, group in pairs]

    @property
    def group_names(self) -> list[str]:
        """The names of the groups."""
        return list(self._dataset.groups)

    @cached_property
    def query_names(self) -> list[str]:
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

    def image_scores(self, method: str) -> Scores:
        """Returns a method's scores of images, as arrays without labels.

        Raises:
            BegatError: there are no such scores.
        """
        return self._select(method, self._image_scores)

    def group_scores(self, method: str) -> Scores:
        """Returns a method's scores of groups, as arrays without labels.

        Raises:
            BegatError: there are no such scores.
        """
        return self._select(method, self._group_scores)

    def scores(self, method: str, of: Literal["images", "groups"] = "images") -> "DataArray":
        """Returns a method's scores, labelled by query and by training image or group.

        The attributes have the method's ``label`` and ``description``, the ``unit``, and whether
        the sign (``signed``) and the size (``calibrated``) have a meaning. Where the method has
        p-values, they are a coordinate, ``p_value``.

        Raises:
            BegatError: there are no such scores.
        """
        from xarray import DataArray  # takes a second

        table = self.image_scores(method) if of == "images" else self.group_scores(method)
        names = self.image_names if of == "images" else self.group_names
        axes = ("query", of.removesuffix("s"))
        labels: dict[str, Any] = {"query": self.query_names, axes[1]: names}
        if table.p_values is not None:
            labels["p_value"] = (axes, table.p_values)
        words = {"label": self.names.label(method), "description": self.names.description(method)}
        return DataArray(table.values, labels, axes, method, {**words, **asdict(table.measure)})

    @property
    def images(self) -> "DataArray":
        """The training images, levels 0 to 255, labelled by name."""
        return self._pixels(self._current.input("images")["pixels"], "image", self.image_names)

    @property
    def queries(self) -> "DataArray":
        """The query images, -1 to 1, labelled by name."""
        pixels = np.concatenate([part["pixels"] for part in self._current.inputs("queries")])
        return self._pixels(pixels, "query", self.query_names)

    @staticmethod
    def _pixels(pixels: np.ndarray, axis: str, names: list[str]) -> "DataArray":
        from xarray import DataArray

        return DataArray(pixels, {axis: names}, (axis, "channel", "y", "x"), "pixels")

    @property
    def member_of(self) -> "DataArray":
        """Which training image is in which group, labelled by both names."""
        from xarray import DataArray

        labels = {"group": self.group_names, "image": self.image_names}
        member_of = self._current.input("images")["member_of"]
        return DataArray(member_of, labels, ("group", "image"), "member_of")

    def agreement(self) -> dict[str, Any]:
        """Returns the agreement of every method with retraining, with intervals and noise ceilings.

        Keys are those of the report's tables, such as ``lds`` or ``logo``.

        Raises:
            BegatError: the metrics are missing or out of date.
        """
        return self._current.input("metrics").attributes["summary"]

    def model(
        self, name: str = "full-0-0", weights: Literal["ema", "raw"] = "ema"
    ) -> "DDPMPipeline":
        """Returns a trained model as a diffusers pipeline.

        Raises:
            BegatError: no such model, or it is not trained yet.
        """
        from begat.execution.export import pipeline_of

        return pipeline_of(self._spec, name, weights)

    def packed_model(
        self, name: str = "full-0-0", weights: Literal["ema", "raw"] = "ema"
    ) -> "tuple[Float[np.ndarray, ' parameter'], PackedNetwork]":
        """Returns a trained model as a row of weights with its network, for ``begat.unlearn``.

        Raises:
            BegatError: no such model, or it is not trained yet.
        """
        from begat.execution.export import packed_of

        return packed_of(self._spec, name, weights)

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
