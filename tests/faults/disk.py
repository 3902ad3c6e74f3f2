"""A disk that is full and then has room again: a run ends in words, and resumes by itself."""

import random
import shutil
import subprocess
from collections.abc import Iterator

from engines.workspace import ENVIRONMENT

from faults.scene import Scene, Trial, ugly

NAMESPACE = ("unshare", "--map-root-user", "--mount")
FULL = (3, 30)  # space for results, on a disk that they fill [MiB]
SCRIPT = """
mount -t tmpfs -o size="$SIZE" none "$PROJECT" || exit 3
cp -a "$PRISTINE/." "$PROJECT" && cd "$PROJECT" || exit 4
snakemake --cores 2 > "$KEPT/full" 2>&1 && exit 5
find results .begat -name '*.tmp' > "$KEPT/left"
mount -o remount,size=4g "$PROJECT" && snakemake --cores 2 > "$KEPT/room" 2>&1 || exit 6
cp -a . "$KEPT/project"
"""
ENDS = {
    3: "no file system could be mounted",
    4: "the sources alone fill the disk",
    5: "the run went through on a disk that should be full",
    6: "with room again the run did not end well",
}


def allowed() -> bool:
    """Whether this user may mount a file system of its own."""
    if not shutil.which("unshare"):
        return False
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def full_disks(scene: Scene, dice: random.Random, count: int) -> Iterator[Trial]:
    """Runs on file systems of random sizes in memory, made larger after the first failure."""
    if not allowed():
        print("full disks: left out, as no file system may be mounted here (unshare --mount)")
        return
    for _ in range(count):
        megabytes = round(dice.uniform(*FULL), 1)
        yield Trial("full disk, then room", f"{megabytes} MiB", _full(scene, megabytes))


def _full(scene: Scene, megabytes: float) -> str:
    """What is wrong after a run on a disk with so much space beside the sources."""
    scene.restore(computed=False)
    pristine, kept = scene.folder / "pristine", scene.folder / "kept"
    for folder in (pristine, kept):
        shutil.rmtree(folder, ignore_errors=True)
    scene.project.rename(pristine)
    for folder in (scene.project, kept):
        folder.mkdir()
    used = sum(path.stat().st_blocks * 512 for path in pristine.rglob("*"))
    places = {"PRISTINE": pristine, "PROJECT": scene.project, "KEPT": kept}
    environment = {
        **ENVIRONMENT,
        **{name: str(path) for name, path in places.items()},
        "SIZE": str(used + round(megabytes * 2**20)),
    }
    done = subprocess.run([*NAMESPACE, "sh", "-c", SCRIPT], env=environment, check=False)
    said = [(kept / name).read_text() for name in ("full", "room") if (kept / name).exists()]
    if done.returncode:
        return f"{ENDS.get(done.returncode, done.returncode)}: {''.join(said)[-500:]}"
    scene.project.rmdir()
    (kept / "project").rename(scene.project)
    left = (kept / "left").read_text().split()
    return ugly("".join(said)) or (f"{left[0]} was left" if left else scene.wrong())
