"""What varies between two equal runs: when, where, how long, by which versions, in what shapes.

A record ends with its ``digest``, the sha256 of the rest, so that nobody changes a number in it
unseen. A copy lies in ``.begat/records``: bytes of its own, as a hard link would change with it.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.execution.machine import fingerprint
from begat.storage.artifacts import remove
from begat.storage.digests import digest
from begat.storage.manifests import put_text

RECORDS = Path("results") / "records"  # beside the results, so that they travel together
COPIES = Path(".begat") / "records"
PACKAGES = ("begat", "torch", "diffusers", "zarr", "numpy", "snakemake", "dvc")
BLOCKS = {
    "network": ("diffusion.noise_predictors", "BATCH"),
    "gradient": ("influence.blocks", "MAX_EXAMPLES"),
    "tape_numbers": ("influence.blocks", "MAX_TAPE_NUMBERS"),
}


def record_path(key: str) -> Path:
    """Where the record of the artifact with this key lies, below the root."""
    return RECORDS / f"{key}.json"


def _copy(root: Path, key: str) -> Path:
    return root / COPIES / f"{key}.json"


def _sealed(fields: Mapping[str, Any]) -> str:
    """The text of a record."""
    return json.dumps({**fields, "digest": digest(fields)}, indent=1) + "\n"


def _read(path: Path, key: str) -> dict[str, Any] | None:
    """A record of this key without its digest; None unless every byte is what was written."""
    try:
        text = path.read_bytes().decode()
        fields = json.loads(text)
        rest = {field: value for field, value in fields.items() if field != "digest"}
        return rest if rest["key"] == key and text == _sealed(rest) else None
    except (OSError, ValueError, KeyError, AttributeError, RecursionError):
        return None


def record(
    root: Path,
    job: Job,
    started: float,
    computing: float,
    device: str,
    pack: Sequence[str],
    content: str,
    cost: Cost | None = None,
) -> None:
    """Note how a job was done that this process is about to finish.

    ``cpu_seconds`` is all that the process took, ``computing`` the part after its start-up. The
    machine, the pack and the sizes of blocks decide the last bits of what came out: other shapes
    are computed by other kernels.

    Args:
        root, job: where, and what was done.
        started, computing: when [s since 1970], and how long the CPU was busy [s].
        device: where the process computed.
        pack: the models or groups that were computed side by side.
        content: the content digest of what came out.
        cost: what it was expected to take, from which plans learn.
    """
    cuda = sys.modules["torch"].cuda if "torch" in sys.modules else None
    used = resource.getrusage(resource.RUSAGE_SELF)
    fields = {
        "key": job.key,
        "stage": job.stage,
        "name": job.name,
        "content": content,
        "commit": _commit(root),
        "versions": {package: version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": device,
        "fingerprint": fingerprint(device),
        "pack": list(pack),
        "blocks": _blocks(job),
        "cost": cost and asdict(cost),
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
        "seconds": time.time() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "computing_cpu_seconds": computing,
        "peak_memory": used.ru_maxrss * 1024,
        "peak_device_memory": cuda.max_memory_allocated() if cuda and cuda.is_available() else 0,
    }
    for path in (_copy(root, job.key), root / record_path(job.key)):
        _put(path, fields)


def recorded(root: Path, key: str) -> dict[str, Any]:
    """What is recorded of the job with a key; nothing where the record is lost or damaged."""
    return _read(root / record_path(key), key) or {}


def unsound(root: Path, key: str, folder: Path = RECORDS) -> str:
    """What is wrong with the record of this key in a folder; nothing where it is sound."""
    path = root / folder / f"{key}.json"
    if not os.path.lexists(path):
        return "lost"
    return "" if _read(path, key) else "not what was written"


def put_back(root: Path, key: str, content: str | None) -> bool:
    """Put a record back from its copy, if that is of this content; whether it could be."""
    copy = _read(_copy(root, key), key)
    if copy is None or copy.get("content") != content:
        return False
    _put(root / record_path(key), copy)
    return True


def mend(root: Path, job: Job, content: str | None) -> bool:
    """Put a record back, or write one which says that nothing is known; whether it was put back."""
    if put_back(root, job.key, content):
        return True
    unknown = {"key": job.key, "stage": job.stage, "name": job.name, "content": content}
    _put(root / record_path(job.key), {**unknown, "unknown": "the record was lost or damaged"})
    return False


def _put(path: Path, fields: Mapping[str, Any]) -> None:
    if path.is_dir():
        remove(path)
    put_text(path, _sealed(fields))


def keep_copy(root: Path, key: str) -> None:
    """Take a record that came from elsewhere into the copies, where there is none."""
    copy = _copy(root, key)
    if not copy.exists() and (fields := _read(root / record_path(key), key)):
        _put(copy, fields)


def forget_copies(root: Path, keys: Collection[str]) -> None:
    """Remove the copies of records with other keys than these."""
    for path in (root / COPIES).glob("*.json"):
        if path.stem not in keys:
            path.unlink()


def _blocks(job: Job) -> dict[str, int]:
    """How many queries the job has, and the bounds on what a network call of each kind takes."""
    modules = {kind: (sys.modules.get(f"begat.{m}"), name) for kind, (m, name) in BLOCKS.items()}
    sizes = {kind: getattr(m, name) for kind, (m, name) in modules.items() if m is not None}
    return {"queries": job.queries[1] - job.queries[0], **sizes}


def provenance(table: JobTable) -> list[dict[str, Any]]:
    """Every artifact with its key and what is recorded of its making (None where nothing is)."""
    rows = []
    for job in table.jobs():
        values = recorded(table.root, job.key)
        versions = values.get("versions")
        fields = ("started", "seconds", "cpu_seconds", "peak_memory", "device", "commit")
        rows.append(
            {
                "stage": job.stage,
                "name": job.name,
                "key": job.key,
                "torch": versions.get("torch") if isinstance(versions, dict) else None,
                **{field: values.get(field) for field in fields},
            }
        )
    return rows


def _commit(root: Path) -> str:
    """The git commit the code stands at, ``+`` if it has changed since."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = "+" if git("status", "--porcelain", "-uno") else ""
    return git("rev-parse", "--short=12", "HEAD") + changed
