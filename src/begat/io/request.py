"""What a parameter file asks for: which images, which models, which queries."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from begat.core.codes import ensemble_codes
from begat.core.membership import check_exposure
from begat.core.roster import Model, check_request, roster
from begat.errors import BegatError
from begat.io import datasets, params
from begat.io.listings import watched
from begat.io.pipelines import check_pipeline


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
        self.params = params.load(self.root, self.use)
        check_request(self.params["splits"], len(self.dataset.names), len(self.dataset.groups))
        datasets.check_groups(self.dataset)
        self._check_group_members()
        if self.pipeline:
            check_pipeline(self.pipeline, self.params, len(self.dataset.classes))
        if self.params["unet"]["conditional"] and -1 in self.dataset.labels:
            raise BegatError(
                "unet.conditional: expected a column named condition in the manifest, or exactly "
                "one group per image"
            )

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

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """First and past-the-last query of each block."""
        own, asked = self.query_dataset, self.params["queries"]
        total, size = len(own.names) if own else asked["count"], asked["block"]
        return [(start, min(start + size, total)) for start in range(0, total, size)]

    def model(self, name: str) -> Model:
        """The model of this name."""
        return next(model for model in self.models if model.name == name)

    def of_kind(self, *kinds: str) -> tuple[Model, ...]:
        """The models of some kinds."""
        return tuple(model for model in self.models if model.kind in kinds)
