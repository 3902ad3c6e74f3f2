"""What a parameter file asks for: which images, which models, which queries."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from begat.config import load
from begat.data import datasets
from begat.data.listings import watched
from begat.data.pipelines import check_pipeline
from begat.ensembles.codes import ensemble_codes
from begat.ensembles.exposure import check_exposure
from begat.ensembles.model_specs import Model, check_request, fitted, roster
from begat.errors import BegatError, brief

MOST_BLOCKS = 1_000  # so that a plan takes seconds
MOST_READS = 1_000_000  # of models by blocks


@dataclass
class Request:
    """Parameters and dataset, checked against each other."""

    root: Path
    use: str | None = None
    params: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Read parameters and dataset.

        Raises:
            BegatError: parameters or data that allow no such run.
        """
        self.params = load.load(self.root, self.use)
        units = len(self.dataset.names), len(self.dataset.groups)
        self.params["splits"] = splits = fitted(self.params["splits"], *units)
        try:
            check_request(splits, *units)
            self._check_group_members()
            if self.params["unet"]["conditional"] and -1 in self.dataset.labels:
                raise BegatError(
                    "unet.conditional: expected a column named condition in the manifest, or "
                    "exactly one group per image"
                )
        except BegatError as error:
            raise BegatError(f"{brief(self.params['use'])}: {error}") from None
        load.check_together(self.params)
        datasets.check_groups(self.dataset)
        if self.pipeline:
            check_pipeline(self.pipeline, self.params, len(self.dataset.classes))

    def _check_group_members(self) -> None:
        """Raise BegatError where overlapping groups would be seen by too few group members."""
        splits, groups = self.params["splits"], self.dataset.groups
        if not splits["group_members"] or all(len(of) < 2 for of in self.dataset.membership):
            return
        asked = splits["group_code"], self.params["seed"], "group_member", len(groups)
        codes = ensemble_codes(*asked, splits["group_members"])
        check_exposure(codes, self.dataset.membership, groups)

    @property
    def pipeline(self) -> Path | None:
        """The trained pipeline that stands for the full model, if somebody brought one."""
        named = self.params["models"]["pipeline"]
        return None if named == "none" else watched(named, self.root)

    @property
    def vision_file(self) -> Path | None:
        """The weights of the network that judges similarity, if a file was named."""
        _, _, named = self.params["scores_features"]["network"].partition(":")
        weights = named.partition(":")[2]
        return watched(weights, self.root) if weights else None

    @cached_property
    def dataset(self) -> datasets.Dataset:
        """The training images, as far as they are known without decoding."""
        return datasets.index(self.params["images"], self.root)

    @cached_property
    def query_dataset(self) -> datasets.Dataset | None:
        """A person's own queries, or None where queries are generated."""
        if self.params["queries"]["source"] == "generated":
            return None
        found = datasets.index(self.params["queries"], self.root)
        if self.params["unet"]["conditional"]:
            if -1 in found.labels:
                raise BegatError(
                    "queries.path: expected a column named condition in the manifest, or exactly "
                    "one group per query, as models are conditional"
                )
            if strange := [c for c in found.classes if c not in self.dataset.classes]:
                raise BegatError(
                    f"queries.path: {strange[0]!r} is not one of the training images' classes"
                )
        return found

    @cached_property
    def query_labels(self) -> list[int]:
        """The class of each of a person's own queries, -1 where models know no classes."""
        own = self.query_dataset
        assert own is not None
        if not self.params["unet"]["conditional"]:
            return [-1] * len(own.names)
        return [self.dataset.classes.index(own.classes[label]) for label in own.labels]

    @cached_property
    def models(self) -> list[Model]:
        """All models, in the order of ``trains_on``."""
        splits, pack = self.params["splits"], self.params["models"]["pack"]
        return roster(splits, len(self.dataset.groups), pack)

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
        own, asked = self.query_dataset, self.params["queries"]
        total, block = len(own.names) if own else asked["count"], asked["block"]
        forgetful = -(-len(self.dataset.groups) // self.params["unlearned"]["pack"])
        most = min(MOST_BLOCKS, MOST_READS // (len(self.models) + forgetful))
        if -(-total // block) > most:
            raise BegatError(
                f"{brief(self.params['use'])}: queries.block: expected at least "
                f"{-(-total // most)}, so that {total} queries make at most {most} blocks, "
                f"found {block}"
            )
        return [(start, min(start + block, total)) for start in range(0, total, block)]

    def model(self, name: str) -> Model:
        """The model of this name."""
        return next(model for model in self.models if model.name == name)

    def of_kind(self, *kinds: str) -> tuple[Model, ...]:
        """The models of some kinds."""
        return tuple(model for model in self.models if model.kind in kinds)
