"""One artifact in the ancestry of a score: its key, content, record, and what is wrong with it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from begat.execution.contents import Contents
from begat.execution.history import History, history
from begat.execution.jobs import Job
from begat.execution.records import COPIES, RECORDS, recorded, unsound
from begat.planning.freshness import why
from begat.planning.plan import Plan
from begat.storage.artifacts import stored_attributes
from begat.storage.cache import Store
from begat.storage.digests import digest
from begat.storage.manifests import content_digest, damage


@dataclass(frozen=True)
class Link:
    """An artifact, where it came from, and whether that holds.

    Attributes:
        job: what was to be made.
        content: its content digest, None where it has no whole manifest.
        record: when, where and by which versions it was made; empty where that is unknown.
        line: of the history, where it was made or came here; None where there is none.
        faults: what is wrong, each in one line that names a file.
    """

    job: Job
    content: str | None
    record: Mapping[str, Any]
    line: int | None
    faults: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Returns the link as JSON values."""
        made_from = self.job.made_from
        return {
            "artifact": self.job.path.as_posix(),
            "key": self.job.key,
            "content": self.content,
            "history_line": self.line,
            "record": dict(self.record),
            "parameters": made_from.get("parameters", {}),
            "code": made_from.get("code", {}),
            "reads": ["/".join(name) for name in self.job.inputs],
            "faults": self.faults,
        }


class Inspector:
    """Compares artifacts with their manifests, keys, inputs, records and lines of the history."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.contents = plan, Contents(plan.root)

    @cached_property
    def history(self) -> History:
        """The history of the project."""
        return history(self.plan.root)

    def link(self, job: Job) -> Link:
        """Returns an artifact with all that is wrong with it; every byte of it is read."""
        content = content_digest(self.plan.root / job.path)
        made = self.history.first("made", key=job.key, content=content)
        came = self.history.first("adopted", key=job.key, content=content)
        line = made if made is not None else came
        record = recorded(self.plan.root, job)
        return Link(job, content, record, line, list(self._faults(job, content, record, line)))

    def _faults(
        self, job: Job, content: str | None, record: Mapping[str, Any], line: int | None
    ) -> Iterator[str]:
        path = self.plan.root / job.path
        if not path.exists():
            yield f"{job.path}: missing"
            return
        yield from (f"{job.path / name}: not what was written" for name in damage(path))
        yield from self._other_origin(job)
        reason = unsound(self.plan.root, job.key)
        if reason:
            yield f"{RECORDS / job.key}.json: {reason}"
        elif record["content"] != content:
            yield f"{job.path}: another content digest than its record, {RECORDS / job.key}.json"
        elif (record["stage"], record["name"]) != (job.stage, job.name):
            yield f"{RECORDS / job.key}.json: the record of {record['stage']}/{record['name']}"
        if line is None and content is not None:
            yield f"{job.path}: the history has no line for its content"

    def _other_origin(self, job: Job) -> Iterator[str]:
        """Yields how an artifact was made from something else than what is there now."""
        stored = stored_attributes(self.plan.root / job.path)
        if stored is None:
            return
        if stored.get("key") != digest(stored.get("made_from")):
            yield f"{job.path}/zarr.json: its key is not that of what it was made from"
        if self.contents.attributes(job.path) is None:
            return
        if reason := why(self.plan, job, self.contents):
            yield f"{job.path}: not what these parameters, code and data ask for: {reason}"

    def on_this_machine(self) -> Iterator[str]:
        """Yields what is wrong with anything that is kept beside the artifacts of the plan."""
        root, store = self.plan.root, Store(self.plan.root).folder
        for entry in sorted(store.iterdir()) if store.is_dir() else []:
            place = entry.relative_to(root)
            yield from (f"{place / name}: not what was written" for name in damage(entry))
            stored = stored_attributes(entry) or {}
            if stored.get("key", entry.name) != entry.name:
                yield f"{place}: holds the result with another key, {stored['key']}"
        for folder in (RECORDS, COPIES):
            for path in sorted((root / folder).glob("*.json")):
                if reason := unsound(root, path.stem, folder):
                    yield f"{folder / path.name}: {reason}"
        yield from self.history_faults()

    def history_faults(self) -> list[str]:
        """Returns what is wrong with either copy of the history."""
        faults = {**self.history.faults, **self.history.shorter}
        return [f"{path}: {fault}" for path, fault in faults.items()]
