"""What the engines cost on a finished run: asking them whether there is anything to do, and what
part of the run's time was computing; and what it costs that nothing wrong is believed: to compare
every byte of the results with what was written, and to bring it to the disk.

Run it in the folder of a finished run (``snakemake --cores all && make commit``):

    python benchmarks/overhead.py
"""

import json
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from begat.storage.manifests import damage, sync


def seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def shares() -> tuple[float, float]:
    """Cpu-seconds that the jobs took in all, and those they spent computing."""
    records = [json.loads(p.read_text()) for p in Path("results/records").glob("*.json")]
    return tuple(sum(r[f] for r in records) for f in ("cpu_seconds", "computing_cpu_seconds"))


def guarding() -> tuple[float, float]:
    """Cpu-seconds to compare all results with their manifests, and seconds to sync a copy."""
    artifacts = [*Path("results").glob("*/*.zarr"), Path("results/report")]
    started = time.process_time()
    assert not any(damage(path) for path in artifacts)
    compared = time.process_time() - started
    with TemporaryDirectory(dir=".begat") as folder:
        copy = shutil.copytree("results", Path(folder) / "results")
        started = time.perf_counter()
        sync(copy)
        return compared, time.perf_counter() - started


if __name__ == "__main__":
    planned = min(seconds("snakemake", "-n") for _ in range(3))
    status = min(seconds("dvc", "status") for _ in range(3))
    took, computing = shares()
    print("| `snakemake -n` | `dvc status` | together | all jobs (cpu) | of that computing |")
    print("|---|---|---|---|---|")
    print(
        f"| {planned:.1f} s | {status:.1f} s | **{planned + status:.1f} s** "
        f"| {took:.0f} s | **{computing / took:.0%}** |"
    )
    compared, synced = guarding()
    print(f"\nAll results compared: {compared:.2f} cpu-s, {compared / took:.2%} of all jobs.")
    print(f"All results brought to the disk: {synced:.2f} s.")
