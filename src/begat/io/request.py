"""What a parameter file asks for: which images, which models, which queries."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from begat.core.roster import Model, check_request, roster
from begat.errors import BegatError
from begat.io import datasets, params
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
        if self.pipeline:
            check_pipeline(self.pipeline, self.params, len(self.dataset.groups))
        if self.params["unet"]["conditional"] and any(len(m) != 1 for m in self.dataset.membership):
            raise BegatError("unet.conditional: expected exactly one group per image")

    @property
    def pipeline(self) -> Path | None:
        """The trained pipeline that stands for the full model, if somebody brought one."""
        named = self.params["models"]["pipeline"]
        return None if named == "none" else datasets.watched(named, self.root)

    @property
    def vision_file(self) -> Path | None:
        """The file of the network that judges similarity, if a file was named."""
        source, _, what = self.params["scores_features"]["network"].partition(":")
        return datasets.watched(what, self.root) if source == "file" else None

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
            known = set(self.dataset.groups)
            if strange := [g for g in found.groups if g not in known]:
                raise BegatError(
                    f"queries.path: group {strange[0]!r} is not one of the training groups"
                )
            if any(len(of) != 1 for of in found.membership):
                raise BegatError("queries.path: a conditional model needs one group per query")
        return found

    @property
    def query_labels(self) -> list[int]:
        """The class of each of a person's own queries, -1 where models know no classes."""
        own = self.query_dataset
        assert own is not None
        if not self.params["unet"]["conditional"]:
            return [-1] * len(own.names)
        return [self.dataset.groups.index(own.groups[of[0]]) for of in own.membership]

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
