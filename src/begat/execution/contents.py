"""What lies in the results now, by content, and whether it is what it should be.

A key says what was asked for, a content digest what came out. Another machine, or other models
trained beside it, gives the same key other bits. So every artifact carries, as ``read``, the
content digest of everything it was computed from, and is current when its key is the one expected
*and* those digests are of what lies there now.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from begat.ensembles.model_specs import Model
from begat.execution.jobs import Job, path_of
from begat.storage.artifacts import stored_attributes
from begat.storage.digests import file_digest
from begat.storage.manifests import content_digest, manifest_of

PARTS = "digests"  # the attribute of an artifact that is read in parts: digests of these


def part_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The sha256 of some arrays' names, types, shapes and bytes."""
    content = hashlib.sha256()
    for name, values in arrays.items():
        content.update(repr((name, values.dtype.str, values.shape)).encode())
        content.update(np.ascontiguousarray(values).data)
    return content.hexdigest()


class Contents:
    """The content digests of the artifacts below one root, each looked up once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._attributes: dict[Path, dict[str, Any] | None] = {}
        self._digests: dict[Path, str | None] = {}

    def attributes(self, path: Path) -> dict[str, Any] | None:
        """An artifact's attributes, None where there is none or they are not what was written."""
        if path not in self._attributes:
            self._attributes[path] = self._look_up(self._root / path)
        return self._attributes[path]

    @staticmethod
    def _look_up(path: Path) -> dict[str, Any] | None:
        files, place = manifest_of(path), path / "zarr.json"
        if files is None or not place.is_file() or file_digest(place) != files["zarr.json"]:
            return None
        return stored_attributes(path)

    def of(self, stage: str, name: str) -> str | None:
        """The content digest of a whole artifact."""
        path = path_of(stage, name)
        if path not in self._digests:
            self._digests[path] = content_digest(self._root / path)
        return self._digests[path]

    def part(self, stage: str, name: str, part: str) -> str | None:
        """The digest of one part of an artifact: of a model in a pack, of its row of the splits."""
        digests = (self.attributes(path_of(stage, name)) or {}).get(PARTS, {})
        return digests.get(part)

    def read_for(self, models: tuple[Model, ...]) -> dict[str, str | None]:
        """What training these models reads."""
        rows = {f"splits/{m.name}": self.part("splits", "all", m.name) for m in models}
        return {"images/all": self.of("images", "all"), **rows}

    def read_by(self, job: Job) -> dict[str, str | None]:
        """The digest of everything that a job reads, None where that is missing or damaged."""
        if job.stage == "models":
            return self.read_for(job.models)
        digests: dict[str, str | None] = {}
        for stage, name in job.inputs:
            if stage == "splits" and job.splits:
                rows = {m.name: self.part(stage, name, m.name) for m in job.splits}
                digests |= {f"splits/{model}": row for model, row in rows.items()}
            elif stage != "models":
                digests[f"{stage}/{name}"] = self.of(stage, name)
        for model in job.models:
            digests[f"models/{model.name}"] = self.part("models", model.pack, model.name)
        return digests

    def current(self, job: Job) -> bool:
        """Whether an artifact carries the key expected, and was made from what lies here."""
        stored = self.attributes(job.path)
        return stored is not None and stored.get("key") == job.key and not self.others(job, stored)

    def others(self, job: Job, stored: Mapping[str, Any]) -> dict[str, str | None]:
        """What lies here now in place of what an artifact was computed from, where it is another.

        None stands for what is missing, damaged or no longer read.
        """
        before, now = stored.get("read"), self.read_by(job)
        if not isinstance(before, dict):
            return now
        names = sorted({*before, *now})
        return {n: now.get(n) for n in names if now.get(n) is None or before.get(n) != now[n]}
