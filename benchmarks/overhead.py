"""What the engines cost on a finished run: asking them whether there is anything to do, and what
part of the run's time was computing.

Run it in the folder of a finished run (``snakemake --cores all && make commit``):

    python benchmarks/overhead.py
"""

import json
import subprocess
import time
from pathlib import Path


def seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def shares() -> tuple[float, float]:
    """Cpu-seconds that the jobs took in all, and those they spent computing."""
    records = [json.loads(p.read_text()) for p in Path(".begat/records").glob("*.json")]
    return tuple(sum(r[f] for r in records) for f in ("cpu_seconds", "computing_cpu_seconds"))


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
