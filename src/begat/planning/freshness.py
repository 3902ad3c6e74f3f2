"""How keys speak to an engine that believes in file times.

Snakemake 9 compares the ages of files, and that cannot be switched off. So every existing artifact
is given one and the same age, and every rule reads a *marker*: an old file where the artifact
carries the expected key, a file of this moment where it does not. After a checkout, a restore or a
copy nothing but keys decides.
"""

import json
import os
import time
from pathlib import Path

from begat.errors import shortened
from begat.execution.contents import Contents
from begat.execution.jobs import Job, path_of
from begat.planning.costs import work_left
from begat.planning.plan import Plan
from begat.stages import STAGES
from begat.storage.artifacts import stored_attributes
from begat.storage.manifests import Verified

OLD = 1_000_000_000  # the age of all that exists (2001)
OLDER = 1_000  # the age of the marker that says "current" (1970)


class Freshness:
    """Markers below ``.begat/markers`` and the ages of artifacts, for one plan."""

    def __init__(self, plan: Plan, main: bool) -> None:
        """Write markers and set ages, if this is the main process and not one of its children."""
        self.plan, self.contents, self.damaged = plan, Contents(plan.root), set[Path]()
        folder = plan.root / ".begat" / "markers"
        self.fresh, self.stale = folder / "current", folder / "stale"
        if not main:
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "parameters").write_text(plan.params.params_file)
        verified = Verified(plan.root)
        there = (job.path for job in plan.jobs() if (plan.root / job.path).is_dir())
        self.damaged = {path for path in there if not verified.whole(plan.root / path)}
        self.fresh.touch()
        os.utime(self.fresh, (OLDER, OLDER))
        # New content each time: a newer input is forgiven where its checksum is one seen before.
        stale = [job for job in plan.jobs() if not self._current(job)]
        work = work_left(plan, stale)
        self.stale.write_text(json.dumps({"at": time.time_ns(), **work}))
        for stage in STAGES:  # DVC wants its outputs, even where a run has none of a kind
            (plan.root / path_of(stage, "")).parent.mkdir(parents=True, exist_ok=True)
        for job in plan.jobs():
            path = plan.root / job.path
            stamp = path / ".snakemake_timestamp"
            for existing in (stamp if stamp.exists() else path,):
                if existing.exists():
                    os.utime(existing, (OLD, OLD))

    def marker(self, stage: str, name: str) -> str:
        """The marker that the rule making this artifact reads, relative to the root."""
        is_current = self._current(self.plan.job(stage, name))
        return str((self.fresh if is_current else self.stale).relative_to(self.plan.root))

    def _current(self, job: Job) -> bool:
        """Whether an artifact is whole (seen by the main process alone) and what it should be."""
        return job.path not in self.damaged and self.contents.current(job)


def last_used(root: Path) -> str:
    """The parameter file of the last start of Snakemake; empty if there was none."""
    note = root / ".begat" / "markers" / "parameters"
    return note.read_text(errors="replace") if note.is_file() else ""


def why(plan: Plan, job: Job, contents: Contents) -> str:
    """Why an artifact is not current, in a few words; empty where it is."""
    stored = stored_attributes(plan.root / job.path)
    if stored is None:
        return "missing"
    if contents.attributes(job.path) is None:
        return "damaged"
    if stored.get("key") == job.key:
        others = contents.others(job, stored)
        missing = [name for name, content in others.items() if content is None]
        reason = "input missing: " if missing else "input made anew: "
        return reason + shortened(missing or [*others]) if others else ""
    return (
        "; ".join(_differences(stored.get("made_from", {}), dict(job.made_from)))
        or "made otherwise"
    )


def _differences(before: dict, now: dict) -> list[str]:
    reasons = []
    for part, prefix in (
        ("parameters", ""),
        ("code", "code changed: "),
        ("inputs", "input changed: "),
    ):
        old, new = before.get(part, {}), now.get(part, {})
        changed = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
        if part == "parameters":
            reasons += [f"{k}: {old.get(k)} -> {new.get(k)}" for k in changed]
        elif changed:
            reasons.append(prefix + shortened(changed))
    if before.get("schema") != now.get("schema"):
        reasons.append(f"schema: {before.get('schema')} -> {now.get('schema')}")
    for part in ("models", "rows", "queries", "data", "label"):
        if before.get(part) != now.get(part):
            reasons.append(f"other {part}")
    return reasons
