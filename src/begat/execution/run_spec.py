"""The specification of a run: its parameters, dataset, models and queries, checked together."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from begat.config.consistency import refuse
from begat.config.schema import Params
from begat.data import datasets
from begat.data.listings import resolve_under_data
from begat.data.pipelines import check_pipeline
from begat.ensembles.codes import ensemble_codes
from begat.ensembles.exposure import check_exposure
from begat.ensembles.model_specs import Model
from begat.errors import BegatError, brief
from begat.execution.model_list import check_request, fitted, roster

MAX_BLOCKS = 1_000  # so that a plan takes seconds
MAX_READS = 1_000_000  # of models by blocks


@dataclass
class RunSpec:
    """Parameters and dataset, checked against each other.

    Raises:
        BegatError: parameters or data that allow no such run.
    """

    root: Path
    params: Params
    dataset: datasets.Dataset = field(init=False)

    def __post_init__(self) -> None:
        """Index the dataset, fit the splits to it and check what follows."""
        if (source := self.params.images.source) not in datasets.SOURCES:
            refuse(self.params, "images.source", f"one of {', '.join(datasets.SOURCES)}", source)
        self.dataset = datasets.index(self.params.images, self.root)
        units = len(self.dataset.names), len(self.dataset.groups)
        self.params = replace(self.params, splits=fitted(self.params.splits, *units))
        try:
            check_request(self.params.splits, *units)
            self._check_group_members()
            if self.params.unet.class_conditional and -1 in self.dataset.labels:
                raise BegatError(
                    "unet.class_conditional: expected a column named condition in the manifest, "
                    "or exactly one group per image"
                )
        except BegatError as error:
            raise BegatError(f"{brief(self.params.params_file)}: {error}") from None
        datasets.check_groups(self.dataset)
        if self.pipeline:
            check_pipeline(self.pipeline, self.params, len(self.dataset.classes))

    def _check_group_members(self) -> None:
        """Raise BegatError where too few group members lack an image of overlapping groups."""
        splits, groups = self.params.splits, self.dataset.groups
        if not splits.group_members or all(len(of) < 2 for of in self.dataset.membership):
            return
        code = splits.group_code, self.params.seed, "group_member", len(groups)
        codes = ensemble_codes(*code, splits.group_members)
        check_exposure(codes, self.dataset.membership, groups)

    @property
    def pipeline(self) -> Path | None:
        """The external trained pipeline that is the full model, if there is one."""
        path = self.params.models.pipeline
        return None if path == "none" else resolve_under_data(path, self.root)

    @cached_property
    def query_dataset(self) -> datasets.Dataset | None:
        """The user-supplied queries, or None where queries are generated."""
        if self.params.queries.source == "generated":
            return None
        queries = datasets.index(self.params.queries, self.root)
        if self.params.unet.class_conditional:
            if -1 in queries.labels:
                raise BegatError(
                    "queries.path: expected a column named condition in the manifest, or exactly "
                    "one group per query, as models are conditional"
                )
            if unknown := [c for c in queries.classes if c not in self.dataset.classes]:
                raise BegatError(
                    f"queries.path: {unknown[0]!r} is not one of the training images' classes"
                )
        return queries

    @cached_property
    def query_labels(self) -> list[int]:
        """The class of each user-supplied query, -1 where models are unconditional."""
        queries = self.query_dataset
        assert queries is not None
        if not self.params.unet.class_conditional:
            return [-1] * len(queries.names)
        return [self.dataset.classes.index(queries.classes[label]) for label in queries.labels]

    @cached_property
    def models(self) -> list[Model]:
        """All models, in the order of ``trains_on``."""
        groups, models_per_job = len(self.dataset.groups), self.params.models.models_per_job
        return roster(self.params.splits, groups, models_per_job)

    @property
    def kinds(self) -> list[str]:
        """The kinds of model this run has."""
        return list(dict.fromkeys(model.kind for model in self.models))

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """First and past-the-last query of each block.

        Raises:
            BegatError: so many blocks, each of which reads each model, that a plan takes minutes.
        """
        dataset, size = self.query_dataset, self.params.queries.queries_per_job
        total = len(dataset.names) if dataset else self.params.queries.count
        models = len(self.models) + len(self.dataset.groups)
        most = min(MAX_BLOCKS, MAX_READS // models)
        if -(-total // size) > most:
            raise BegatError(
                f"{brief(self.params.params_file)}: queries.queries_per_job: expected at least "
                f"{-(-total // most)}, so that {total} queries make at most {most} jobs, "
                f"found {size}"
            )
        return [(start, min(start + size, total)) for start in range(0, total, size)]

    def model(self, name: str) -> Model:
        """Returns the model of this name."""
        return next(model for model in self.models if model.name == name)

    def of_kind(self, *kinds: str) -> tuple[Model, ...]:
        """Returns the models of these kinds."""
        return tuple(model for model in self.models if model.kind in kinds)
