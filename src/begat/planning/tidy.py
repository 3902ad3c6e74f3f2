"""Results that came from elsewhere, that are damaged, or that nobody asks for any more."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from begat.execution.contents import Contents
from begat.execution.jobs import Job
from begat.execution.records import COPIES, RECORDS, keep_copy, put_back, recorded, unsound
from begat.planning.plan import Plan
from begat.storage.artifacts import Artifact, remove, stored_attributes, write
from begat.storage.cache import Store
from begat.storage.manifests import Verified, content_digest
from begat.storage.schema import schema_of


def tidy(plan: Plan) -> None:
    """Take what lies in the results into the store, and leave there what this plan asks for.

    What was pulled, copied or checked out is then at hand like what was computed here. Only a
    process that holds the lock of a run may call this.
    """
    _sweep(plan.root)
    store, verified = Store(plan.root), Verified(plan.root)
    expected = {job.path for job in plan.jobs()}
    for path in _artifacts(plan.root):
        attributes = stored_attributes(path)
        if attributes is None or "key" not in attributes:
            continue
        if not _held(store, attributes):
            if not verified.whole(path):
                continue  # as damaged it is made anew
            _adopt(store, path, attributes)
            verified.note(path)
        _settle(plan.root, attributes["key"], path)
        if path.relative_to(plan.root) not in expected:
            remove(path)


def _sweep(root: Path) -> None:
    """Remove what killed processes left: texts half written, and what they were to remove."""
    for place in (RECORDS, COPIES, Path(".begat"), Path(".begat") / "verified"):
        for left in (root / place).glob("*.tmp"):
            left.unlink(missing_ok=True)
    for pattern in ("results/*.old.tmp", "results/*/*.old.tmp", ".begat/*/*.old.tmp"):
        for left in root.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)


def _settle(root: Path, key: str, path: Path) -> None:
    """Let an artifact have its record, and the record its copy, where one of both is there."""
    if unsound(root, key):
        put_back(root, key, content_digest(path))
    else:
        keep_copy(root, key)


def _artifacts(root: Path) -> Iterator[Path]:
    yield from sorted((root / "results").glob("*/*.zarr"))
    yield root / "results" / "report"


def _single(attributes: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    """The models that are kept one by one, with what each is made from; None for other results."""
    models = attributes.get("made_from", {}).get("models")
    return models if models and "config" in attributes else None


def _held(store: Store, attributes: dict[str, Any]) -> bool:
    models = _single(attributes)
    keys = [m["key"] for m in models.values()] if models else [attributes["key"]]
    return all(store.holds(key) for key in keys)


def _adopt(store: Store, path: Path, attributes: dict[str, Any]) -> None:
    models = _single(attributes)
    if not models:
        store.keep(attributes["key"], path)
        return
    pack = Artifact(path, "models")
    for name, made_from in models.items():
        if not store.holds(made_from["key"]):
            read = {n: pack.attributes["read"][n] for n in ("images/all", f"splits/{name}")}
            alone = {"key": made_from["key"], "read": read}
            write(store.path(made_from["key"]), "models", alone, [_rows(pack, name)])


def _rows(pack: Artifact, name: str) -> dict[str, Any]:
    """One model's arrays; not all models have snapshots."""
    arrays = {}
    for array in schema_of("models"):
        names = pack.attributes["snapshots_of" if array == "snapshots" else "models"]
        if array in pack and name in names:
            arrays[array] = pack.rows(array, np.array([names.index(name)]))
    return arrays


def damaged(plan: Plan) -> list[tuple[Job, list[str]]]:
    """Artifacts that are there and not what was written, or what their records say: which files."""
    damaged, verified = [], Verified(plan.root)
    for job in plan.jobs():
        path = plan.root / job.path
        if path.exists() and (files := verified.damage(path) or _unlike_record(plan, job)):
            damaged.append((job, files))
    return damaged


def _unlike_record(plan: Plan, job: Job) -> list[str]:
    """Whether an artifact that carries the key expected has other bits than its record says."""
    stored = stored_attributes(plan.root / job.path) or {}
    content = recorded(plan.root, job.key).get("content")
    if stored.get("key") != job.key or content in (None, content_digest(plan.root / job.path)):
        return []
    return ["another content digest than its record"]


def unrecorded(plan: Plan) -> list[tuple[Job, str]]:
    """Jobs whose artifacts carry the keys expected, but not their records: what is wrong there."""
    mismatches = []
    for job in plan.jobs():
        attributes = stored_attributes(plan.root / job.path) or {}
        if attributes.get("key") == job.key and (reason := unsound(plan.root, job.key)):
            mismatches.append((job, reason))
    return mismatches


def repair(plan: Plan, job: Job) -> bool:
    """Put a damaged artifact back from the store; else remove it, so that it is made anew.

    Returns whether it could be put back.
    """
    path, store = plan.root / job.path, Store(plan.root)
    remove(path)
    contents = Contents(plan.root)
    if store.restore(job.key, path, contents.read_by(job)) and not _unlike_record(plan, job):
        Verified(plan.root).note(path)
        return True
    return False
