"""One artifact to make: its name, its key, where it lies."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from begat.core.roster import Model
from begat.errors import BegatError

Name = tuple[str, str]  # stage, name


def digest(value: object) -> str:
    """The sha256 of a value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes.

    Raises:
        BegatError: no such file.
    """
    if not path.is_file():
        raise BegatError(f"{path}: expected a file, found none")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Job:
    """One artifact to make: its key, what it is made from, and the artifacts it reads.

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
        """What the artifact must carry to be up to date."""
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
