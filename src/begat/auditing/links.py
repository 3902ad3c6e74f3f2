"""One artifact in the ancestry of a score: its key, content, record, and what is wrong with it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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

CAME = ("made", "adopted")  # events of the history by which a result comes to be here


@dataclass(frozen=True)
class Link:
    """An artifact, where it came from, and whether that holds.

    Attributes:
        job: what was to be made.
        key: that the artifact carries; the one expected of it where it carries none.
        content: its content digest, None where it has no whole manifest.
        record: when, where and by which versions it was made; empty where that is unknown.
        line: of the history, where it was made or came here; None where there is none.
        origin: how it was made from other parameters, code, data or inputs than there are now;
            empty where it was not.
        faults: what is wrong with it by itself, each in one line that names a file.
    """

    job: Job
    key: str
    content: str | None
    record: Mapping[str, Any]
    line: int | None
    origin: str
    faults: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.faults and not self.origin

    def summary(self) -> dict[str, Any]:
        """Returns the link as JSON values."""
        made_from = self.job.made_from
        return {
            "artifact": self.job.path.as_posix(),
            "key": self.key,
            "content": self.content,
            "history_line": self.line,
            "record": dict(self.record),
            "parameters": made_from.get("parameters", {}),
            "code": made_from.get("code", {}),
            "reads": ["/".join(name) for name in self.job.inputs],
            "made_from_other": self.origin,
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
        path = self.plan.root / job.path
        content = content_digest(path)
        key = str((stored_attributes(path) or {}).get("key", job.key))
        lines = (self.history.first(event, key=key, content=content) for event in CAME)
        line = next((number for number in lines if number is not None), None)
        link = Link(job, key, content, recorded(self.plan.root, key), line, self._origin(job))
        return replace(link, faults=list(self._faults(link)))

    def _faults(self, link: Link) -> Iterator[str]:
        """Yields what is wrong with an artifact by itself."""
        job, key = link.job, link.key
        path = self.plan.root / job.path
        if not path.exists():
            yield f"{job.path}: missing"
            return
        yield from (f"{job.path / name}: not what was written" for name in damage(path))
        stored = stored_attributes(path)
        if stored is not None and key != digest(stored.get("made_from")):
            yield f"{job.path}/zarr.json: its key is not that of what it was made from"
        record = link.record
        if reason := unsound(self.plan.root, key):
            yield f"{RECORDS / key}.json: {reason} (the record of {job.path})"
        elif record["content"] != link.content:
            yield f"{job.path}: another content digest than in its record, {RECORDS / key}.json"
        elif (record["stage"], record["name"]) != (job.stage, job.name):
            yield f"{job.path}: the result of {record['stage']}/{record['name']}"
        if link.line is None and link.content is not None:
            yield f"{job.path}: the history has no line for its content"

    def _origin(self, job: Job) -> str:
        """Returns how an artifact was made from something else than what is there now."""
        if self.contents.attributes(job.path) is None:
            return ""
        return why(self.plan, job, self.contents)

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
