"""What a run fixes before it starts: parameters, keys and files, as a line of the history."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from begat.execution.history import append, history, result
from begat.execution.records import recorded
from begat.planning.plan import Plan
from begat.storage.artifacts import stored_attributes
from begat.storage.digests import file_digest
from begat.storage.manifests import content_digest

SOURCES = ("src/begat/**/*", "workflow/**/*", "Snakefile", "dvc.yaml", "params.yaml")
IGNORED = ("__pycache__", ".egg-info")


def commit(plan: Plan) -> None:
    """Write a line with the choices of a run, unless the last such line has the same.

    A key depends on every choice that a result depends on, so whoever has the line knows that they
    were made before whatever was written later. Results that have no line yet, such as those that
    were copied here by hand, get theirs.
    """
    log = history(plan.root)
    last = log.last("planned") or {}
    choices = planned(plan)
    events = [choices] if any(last.get(name) != value for name, value in choices.items()) else []
    noted = log.contents()
    for job in plan.jobs():
        content = content_digest(plan.root / job.path)
        stored = stored_attributes(plan.root / job.path) or {}
        agrees = content is not None and recorded(plan.root, job.key).get("content") == content
        if agrees and stored.get("key") == job.key and (job.key, content) not in noted:
            events.append(result("adopted", job, str(content)))
    append(plan.root, *events)


def planned(plan: Plan) -> dict[str, Any]:
    """Returns the event that a run was planned: its parameters, files, and the keys of scores."""
    return {
        "event": "planned",
        "params_file": plan.params.params_file,
        "parameters": dict(flat(asdict(plan.params))),
        "keys": {"/".join(name): plan.job(*name).key for name in plan.scores()},
        "files": files(plan),
    }


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every parameter by its full name, with its value as JSON has it."""
    for name, value in values.items():
        if isinstance(value, dict) and not prefix:
            yield from flat(value, f"{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value


def files(plan: Plan) -> dict[str, str]:
    """Returns the sha256 of every source file and parameter file of a run, by its path."""
    paths = {path for pattern in SOURCES for path in plan.root.glob(pattern) if path.is_file()}
    paths.add(plan.root / plan.params.params_file)
    names = sorted(path.relative_to(plan.root).as_posix() for path in paths)
    return {n: file_digest(Path(plan.root, n)) for n in names if not any(i in n for i in IGNORED)}


def changed_files(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Returns the paths of files that were changed, added or removed."""
    return sorted(n for n in {*before, *now} if before.get(n) != now.get(n))
