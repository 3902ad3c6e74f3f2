"""Single faults: two runs at once, parameter files that are none, results that are read-only."""

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from faults.disk import NAMESPACE, allowed
from faults.scene import Scene, Trial, differences, digests, started, ugly

USE = "params/tiny.yaml"
NO_FILES = {
    "empty": b"",
    "not UTF-8": b"seed: 0  # caf\xe9\n",
    "not YAML": b"a: [",
    "a list": b"[1]",
}


def one_line(said: str) -> str:
    """What is wrong with a refusal: it takes one line that begins by our name."""
    lines = [line for line in said.splitlines() if "Using workflow specific profile" not in line]
    if len(lines) != 1 or "begat: " not in lines[0]:
        return ugly(said) or f"expected one line, found {len(lines)}: {said[-500:]}"
    return ""


def refused(scene: Scene, command: tuple[str, ...]) -> str:
    """What is wrong with how a command fails: in one line, and nothing has changed."""
    code, said = scene.call(*command)
    if not code:
        return f"{command[0]} returned 0"
    return one_line(said) or differences(scene.expected, digests(scene.project))


def parameters(scene: Scene, dice: random.Random) -> str:
    """A damaged parameter file."""
    path = scene.project / USE
    sound = path.read_bytes()
    cut = sound[: dice.randrange(1, len(sound) - 500)]
    for name, text in {**NO_FILES, "cut": cut}.items():
        path.write_bytes(text)
        for command in (("snakemake", "-n"), ("begat", "status")):
            if wrong := refused(scene, command):
                return f"{name}: {wrong}"
    path.write_bytes(sound)
    return scene.run() or scene.wrong()


def two_runs(scene: Scene, dice: random.Random) -> str:
    """Two runs at once in one folder."""
    scene.restore(computed=False)
    with (scene.folder / "said").open("w") as said:
        first = started(scene.project, said)
        lock = scene.project / ".begat" / "lock"
        while first.poll() is None and not (lock.is_file() and lock.read_text()):
            time.sleep(0.1)
        code, text = scene.call("snakemake", "--cores", "2")
        wrong = one_line(text) if code else "the second run was let in"
        ended = first.wait(600)
    text = (scene.folder / "said").read_text(errors="replace")
    if ended:
        wrong = wrong or f"the first run returned {ended}: {text[-500:]}"
    return wrong or ugly(text) or scene.wrong()


def signals(scene: Scene, dice: random.Random) -> str:
    """Runs stopped by the signals of terminals and clusters."""
    scene.restore(computed=False)
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with (scene.folder / "said").open("w") as said:
            run = started(scene.project, said, start_new_session=True)
            with suppress(subprocess.TimeoutExpired):
                run.wait(dice.uniform(3, 12))
            run.send_signal(stop)
            run.wait(600)
        if wrong := ugly((scene.folder / "said").read_text()):
            return f"{stop.name}: {wrong}"
    return scene.run() or scene.wrong()


def read_only(scene: Scene, dice: random.Random) -> str:
    """Results on a file system that takes no writes."""
    mounted = "mount --bind results results && mount -o remount,bind,ro results && exec "
    path = scene.project / USE
    path.write_text(path.read_text().replace("  resamples: 20", "  resamples: 21"))
    for command in ("snakemake --cores 2", "begat status", "begat verify"):
        code, said = scene.call(*NAMESPACE, "sh", "-c", mounted + command)
        wrong = one_line(said) if code and command != "begat status" else ugly(said)
        if wrong:
            return f"{command}: {wrong}"
    return differences(scene.expected, digests(scene.project))


CASES: dict[str, Callable[[Scene, random.Random], str]] = {
    "damaged parameter files": parameters,
    "two runs at once": two_runs,
    "stopped by signals": signals,
    "read-only results": read_only,
}


def cases(scene: Scene, dice: random.Random, count: int) -> Iterator[Trial]:
    """The first ``count`` of the cases, each once."""
    for name, case in list(CASES.items())[:count]:
        if case is read_only and not allowed():
            print(f"{name}: left out, as no file system may be mounted here (unshare --mount)")
            continue
        scene.restore()
        yield Trial("single cases", name, case(scene, dice))
