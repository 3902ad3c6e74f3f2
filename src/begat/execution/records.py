"""What varies between two equal runs: when, where, how long, by which versions, in what shapes."""

import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from begat.execution.job_table import JobTable
from begat.execution.jobs import Job
from begat.execution.machine import fingerprint
from begat.storage.manifests import put_text

RECORDS = Path("results") / "records"  # beside the results, so that they travel together
PACKAGES = ("begat", "torch", "diffusers", "zarr", "numpy", "snakemake", "dvc")
BLOCKS = {
    "network": ("diffusion.noise_predictors", "BATCH"),
    "gradient": ("influence.blocks", "MAX_EXAMPLES"),
    "tape_numbers": ("influence.blocks", "MAX_TAPE_NUMBERS"),
}


def _path(root: Path, job: Job) -> Path:
    return root / RECORDS / f"{job.key}.json"


def record(
    root: Path,
    job: Job,
    started: float,
    computing: float,
    device: str,
    pack: Sequence[str],
    content: str,
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
    """
    cuda = sys.modules["torch"].cuda if "torch" in sys.modules else None
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
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
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
        "seconds": time.time() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "computing_cpu_seconds": computing,
        "peak_memory": used.ru_maxrss * 1024,
        "peak_device_memory": cuda.max_memory_allocated() if cuda and cuda.is_available() else 0,
    }
    put_text(_path(root, job), json.dumps(found, indent=1) + "\n")


def recorded(root: Path, job: Job) -> dict[str, Any]:
    """What is recorded of a job; nothing where there is no record, or a damaged one."""
    try:
        found = json.loads(_path(root, job).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _blocks(job: Job) -> dict[str, int]:
    """How many queries the job has, and the bounds on what a network call of each kind takes."""
    modules = {kind: (sys.modules.get(f"begat.{m}"), name) for kind, (m, name) in BLOCKS.items()}
    sizes = {kind: getattr(m, name) for kind, (m, name) in modules.items() if m is not None}
    return {"queries": job.queries[1] - job.queries[0], **sizes}


def provenance(table: JobTable) -> list[dict[str, Any]]:
    """Every artifact with its key and what is recorded of its making (None where nothing is)."""
    rows = []
    for job in table.jobs():
        known = recorded(table.root, job)
        versions = known.get("versions")
        fields = ("started", "seconds", "cpu_seconds", "peak_memory", "device", "commit")
        rows.append(
            {
                "stage": job.stage,
                "name": job.name,
                "key": job.key,
                "torch": versions.get("torch") if isinstance(versions, dict) else None,
                **{field: known.get(field) for field in fields},
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
