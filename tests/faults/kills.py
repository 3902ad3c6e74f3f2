"""Runs killed by SIGKILL at random moments and started again must end as one left in peace."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from engines.workspace import ENVIRONMENT

from faults.scene import Scene, Trial, started, ugly, ugly_logs

HOOK = Path(__file__).parent / "hook"
ROUND = 20  # kills at most, until a run is left to finish
IDLE = 5  # whole runs in a row that no kill hits, until the campaign is given up
LONGEST = 600  # that a run may take [s]
LATEST = 0.25  # of the moments drawn, since the start [share of an undisturbed run]
CHANCE = 0.002  # that a job is killed at one of its writes


def _jobs(group: int) -> list[int]:
    """The processes of a run that do jobs."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            if os.getpgid(int(path.name)) == group and b"python" in words[0]:
                found += [int(path.name)] * any(b"workflow/scripts" in word for word in words)
    return found


def _whole(run: subprocess.Popen, dice: random.Random) -> bool:
    os.killpg(run.pid, signal.SIGKILL)
    return True


def _engine(run: subprocess.Popen, dice: random.Random) -> bool:
    run.kill()  # its jobs live on
    return True


def _job(run: subprocess.Popen, dice: random.Random) -> bool:
    while run.poll() is None:
        if jobs := _jobs(run.pid):
            with suppress(ProcessLookupError):
                os.kill(dice.choice(jobs), signal.SIGKILL)
                return True
        time.sleep(0.05)
    return False


# A job that kills itself and all others at one of its writes needs nobody else.
KILLS: dict[str, Callable[[subprocess.Popen, random.Random], bool] | None] = {
    "whole run": _whole,
    "Snakemake alone": _engine,
    "one job": _job,
    "at a write": None,
}


def _gone(group: int) -> None:
    """Wait until nobody of a run is left."""
    with suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)
            time.sleep(0.1)


def _killed(scene: Scene, dice: random.Random, kind: str) -> tuple[int, bool, str]:
    """One start: the process group, whether the kill came in time, and what went wrong."""
    environment = dict(ENVIRONMENT)
    if (kill := KILLS[kind]) is None:
        environment["PYTHONPATH"] = f"{HOOK}:{ENVIRONMENT.get('PYTHONPATH', '')}"
        environment["BEGAT_KILL"] = f"{dice.random()} {CHANCE}"
    log = scene.folder / "said"
    with log.open("w") as said:
        run = started(scene.project, said, env=environment, start_new_session=True)
        moment = dice.uniform(0, LATEST * scene.seconds)
        if kill:
            with suppress(subprocess.TimeoutExpired):
                run.wait(moment)
        killed = kill is not None and run.poll() is None and kill(run, dice)
        try:
            code = run.wait(LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            return run.pid, killed, f"snakemake still at work after {LONGEST} s"
    killed |= code == -signal.SIGKILL
    text = log.read_text(errors="replace")
    wrong = ugly(text) or next(ugly_logs(scene.project), "")
    if code and not killed:
        wrong = wrong or f"snakemake returned {code}: {text[-500:]}"
    return run.pid, killed, wrong


def kills(scene: Scene, dice: random.Random, count: int) -> Iterator[Trial]:
    """Rounds of kills; after each a run is left to finish, and all its kills share the outcome."""
    done = idle = 0
    while done < count:
        scene.restore(computed=False)
        kinds, groups, wrong, killed = list[str](), list[int](), "", True
        while killed and not wrong and len(kinds) < min(ROUND, count - done):
            kind = list(KILLS)[(done + len(kinds)) % len(KILLS)]  # by turns; if missed, once more
            group, killed, wrong = _killed(scene, dice, kind)
            kinds += [kind] * killed
            groups.append(group)
        for group in groups:
            _gone(group)
        wrong = wrong or scene.run() or scene.wrong()
        done += len(kinds)
        idle = 0 if kinds else idle + 1
        if idle == IDLE:
            yield Trial(f"kill -9: {kind}", f"{idle} whole runs", "no kill came in time")
            return
        for i, kind in enumerate(kinds or ["none"] * bool(wrong)):
            yield Trial(f"kill -9: {kind}", f"kill {i + 1} of {len(kinds)} in a row", wrong)
