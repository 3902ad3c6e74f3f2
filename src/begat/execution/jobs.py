"""One artifact to make: its name, its key, its inputs, where it lies and what it takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from begat.ensembles.model_specs import Model
from begat.storage.digests import digest

Name = tuple[str, str]  # stage, name
Kind = Literal["training", "prediction", "gradient", "covariance", "arrays"]


@dataclass(frozen=True)
class Job:
    """One artifact to make: its key, what the key is made from, and the artifacts it reads.

    ``splits``: the models whose rows of the table of splits it reads; if none, it reads all.
    """

    stage: str
    name: str
    made_from: Mapping[str, Any]
    inputs: tuple[Name, ...]
    models: tuple[Model, ...] = ()
    queries: tuple[int, int] = (0, 0)
    splits: tuple[Model, ...] = ()

    @cached_property
    def key(self) -> str:
        """The key that an artifact must carry to be up to date."""
        return digest(self.made_from)

    @property
    def path(self) -> Path:
        """Where the artifact lies, below the root."""
        return path_of(self.stage, self.name)


def path_of(stage: str, name: str) -> Path:
    """``results/<stage>/<name>.zarr``; all methods' scores in one folder, the report in its own."""
    if stage == "report":
        return Path("results") / "report"
    if stage.startswith("scores_"):
        return Path("results") / "scores" / f"{stage.removeprefix('scores_')}.zarr"
    return Path("results") / stage / f"{name}.zarr"


@dataclass(frozen=True)
class Cost:
    """What one job takes.

    Attributes:
        kind: of its computation, as an evaluation takes another time in each; ``arrays`` evaluates
            no network.
        evaluations: of the network on one image.
        work: multiplications in the forward passes of these; for ``arrays``, numbers gone through.
        memory: bytes beyond a process that has loaded its libraries.
        host: bytes of these that are never on a GPU.
        disk: bytes of the artifact, its record and its log.
        files: their number.
    """

    kind: Kind = "arrays"
    evaluations: float = 0.0
    work: float = 0.0
    memory: float = 0.0
    host: float = 0.0
    disk: float = 0.0
    files: int = 0
