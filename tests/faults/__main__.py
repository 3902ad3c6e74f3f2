"""Runs campaigns of faults and prints how many passed: ``PYTHONPATH=tests python -m faults``."""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from faults.audits import audits
from faults.cases import cases
from faults.disk import full_disks
from faults.flips import flips
from faults.kills import kills
from faults.mixtures import removals
from faults.scene import Scene, Trial

Campaign = Callable[[Scene, random.Random, int], Iterator[Trial]]
CAMPAIGNS: dict[str, tuple[Campaign, int, int]] = {  # trials in full and in short
    "kills": (kills, 200, 4),
    "flips": (flips, 1000, 50),
    "mixtures": (removals, 16, 2),
    "disk": (full_disks, 4, 0),
    "cases": (cases, 99, 0),
    "audits": (audits, 400, 210),
}
KEPT = 5  # copies of projects in which something failed


def trials(scene: Scene, names: Iterable[str], seed: int, short: bool) -> Iterator[Trial]:
    """All trials of some campaigns; one campaign's draws do not depend on the others'."""
    for name in names:
        campaign, full, few = CAMPAIGNS[name]
        yield from campaign(scene, random.Random(f"{seed} {name}"), few if short else full)


def told(folder: Path, made: Iterable[Trial]) -> Iterator[Trial]:
    """The trials, failures printed at once and the first of them kept as they lie."""
    failures = 0
    for trial in made:
        if trial.wrong:
            failures += 1
            print(f"{trial.campaign}: {trial.what}: {trial.wrong}", file=sys.stderr, flush=True)
        if trial.wrong and failures <= KEPT:
            kept = folder / f"failed-{failures}"
            subprocess.run(["cp", "-a", folder / "project", kept], check=False)
            print(f"  kept in {kept}", file=sys.stderr, flush=True)
        yield trial


def summary(done: Iterable[Trial]) -> dict[str, dict[str, int]]:
    """How many trials of each campaign were made, passed and failed."""
    found: dict[str, dict[str, int]] = {}
    for trial in done:
        row = found.setdefault(trial.campaign, {"tried": 0, "passed": 0, "failed": 0})
        row["tried"] += 1
        row["failed" if trial.wrong else "passed"] += 1
    return found


def table(rows: dict[str, dict[str, int]]) -> Table:
    """The same for a person."""
    found = Table("campaign", "tried", "passed", "failed")
    for name, row in rows.items():
        found.add_row(name, *(str(n) for n in row.values()), style="red" if row["failed"] else "")
    return found


def main() -> int:
    """Run what the command line asks for; 1 if anything failed, or nothing was tried."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("campaigns", nargs="*", help=f"of {', '.join(CAMPAIGNS)}; all by default")
    parser.add_argument("--short", action="store_true", help="a few minutes of it")
    parser.add_argument("--seed", type=int, default=0, help="of what happens when and where")
    parser.add_argument("--json", type=Path, help="write the table and all failures there")
    arguments = parser.parse_args()
    asked = arguments.campaigns or [*CAMPAIGNS]
    if unknown := [name for name in asked if name not in CAMPAIGNS]:
        parser.error(f"{unknown[0]}: expected one of {', '.join(CAMPAIGNS)}")
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    done = list(told(folder, trials(Scene(folder), asked, arguments.seed, arguments.short)))
    rows = summary(done)
    Console().print(table(rows))
    if arguments.json:
        failed = [asdict(trial) for trial in done if trial.wrong]
        arguments.json.write_text(json.dumps({"campaigns": rows, "failed": failed}, indent=1))
    if not done or any(trial.wrong for trial in done):
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
