"""What campaigns share: an undisturbed run, a copy of it to damage, and what must hold after."""

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from engines.workspace import ENVIRONMENT, Workspace
from PIL import Image

from begat.storage.digests import digest

SMALLER: tuple[tuple[str, str, object], ...] = (
    *(("images", key, value) for key, value in (("source", "folder"), ("max_images", 0))),
    *(("splits", key, value) for key, value in (("members", 8), ("group_members", 8))),
    *(("queries", key, value) for key, value in (("count", 2), ("num_inference_steps", 2))),
    *(
        ("models", "max_train_steps", 4),
        ("compute", "checkpoint_seconds", 1),
        ("scores_ensemble", "null_samples", 19),
    ),
)
COMPUTED = ("results", ".begat", ".snakemake", "logs")
NOTE = ".snakemake_timestamp"  # Snakemake's own, in every directory it made
VARYING = ("results/report/", "results/records/")  # they hold times


@dataclass(frozen=True)
class Trial:
    """One fault, and what went wrong after it; nothing did where ``wrong`` is empty."""

    campaign: str
    what: str
    wrong: str = ""


class Scene:
    """An undisturbed run in one folder, and a copy of it in another, where faults happen."""

    def __init__(self, folder: Path) -> None:
        """Run the whole pipeline once, on a few images of its own (so that files are digested)."""
        self.folder, self.finished, self.project = folder, folder / "finished", folder / "project"
        workspace = Workspace.fresh(self.finished)
        for section, key, value in SMALLER:
            workspace.change(section, key, value)
        dice = np.random.default_rng(0)
        for i in range(32):
            path = self.finished / "data" / "images" / f"g{i % 4}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(dice.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
        started = time.monotonic()
        workspace.snakemake()
        self.seconds = time.monotonic() - started
        self.expected = digests(self.finished)

    def restore(self, computed: bool = True) -> None:
        """Make the copy anew, hard links between results and store included."""
        shutil.rmtree(self.project, ignore_errors=True)
        subprocess.run(["cp", "-a", self.finished, self.project], check=True)
        for name in () if computed else COMPUTED:
            shutil.rmtree(self.project / name, ignore_errors=True)

    def call(self, *command: str) -> tuple[int, str]:
        """Exit status and output of a program in the copy."""
        return called(self.project, *command)

    def run(self) -> str:
        """Let Snakemake finish; what went wrong, in a few words."""
        code, said = self.call("snakemake", "--cores", "2")
        return f"snakemake returned {code}: {said[-500:]}" if code else ugly(said)

    def wrong(self) -> str:
        """What is wrong with the copy after a run that ended well: it must equal the first run."""
        return differences(self.expected, digests(self.project)) or self.inconsistent()

    def inconsistent(self) -> str:
        """What is wrong with the copy, even if other bits than those of the first run are fine."""
        found = [*leftovers(self.project), *mixtures(self.project), *ugly_logs(self.project)]
        if found:
            return f"{found[0]} and {len(found) - 1} more"
        code, said = self.call("begat", "verify")
        return f"begat verify returned {code}: {said[-500:]}" if code else ugly(said)

    def healed(self) -> str:
        """What is wrong after the remedies that are documented: run, verify, run again."""
        self.call("snakemake", "--cores", "2")
        self.call("begat", "verify")
        return self.run() or self.inconsistent()


def called(folder: Path, *command: str, **more: Any) -> tuple[int, str]:
    """Exit status and output of a program in a folder."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=3600,  # a starved machine takes long
        **more,
    )
    return done.returncode, done.stdout


def started(folder: Path, said: IO[str], **more: Any) -> subprocess.Popen:
    """A run of Snakemake in a folder that goes on; what it prints goes into a file."""
    how = {"env": ENVIRONMENT, "stdout": said, "stderr": said, **more}
    return subprocess.Popen(["snakemake", "--cores", "2"], cwd=folder, **how)


def ugly(said: str) -> str:
    """The end of a traceback in an output, if there is one."""
    return f"a traceback: {said[-500:]}" if "Traceback (most recent" in said else ""


def ugly_logs(root: Path) -> Iterator[str]:
    """Logs that hold a traceback."""
    for log in (root / "logs").rglob("*.log"):
        if found := ugly(log.read_text(errors="replace")):
            yield f"{log.relative_to(root)}: {found}"


def file_digests(root: Path, place: str) -> dict[str, str]:
    """The sha256 of every file below ``root/place`` but Snakemake's notes, by its path in root."""
    files = sorted(p for p in (root / place).rglob("*") if p.is_file() and p.name != NOTE)
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def digests(root: Path) -> dict[str, str]:
    """The sha256 of every result that two equal runs share."""
    found = file_digests(root, "results")
    return {name: value for name, value in found.items() if not name.startswith(VARYING)}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """How many files are others than expected, and the first of them."""
    names = [n for n in sorted({*expected, *found}) if expected.get(n) != found.get(n)]
    return f"{len(names)} files differ, the first is {names[0]}" if names else ""


def leftovers(root: Path) -> list[str]:
    """What a killed job has left behind."""
    places = (root / "results", root / ".begat")
    found = [str(p.relative_to(root)) for place in places for p in place.rglob("*.tmp")]
    return [f"{name} was left behind" for name in found]


def artifacts(root: Path) -> list[Path]:
    """All artifacts below ``results``, the page's too."""
    found = sorted((root / "results").glob("*/*.zarr"))
    return [path for path in [*found, root / "results" / "report"] if path.is_dir()]


def mixtures(root: Path) -> Iterator[str]:
    """Artifacts that are not what their manifests say, or were made from what lies there no more.

    Read from the files alone, by none of the code that is under test but the digest of a mapping.
    """
    lying, reads = dict[str, str](), dict[str, Mapping[str, str]]()
    for path in artifacts(root):
        name = path.relative_to(root).as_posix()
        try:
            manifest = json.loads((path / "manifest.json").read_text())
            attributes = json.loads((path / "zarr.json").read_text())["attributes"]
            reads[name] = attributes["read"]
        except (OSError, ValueError, KeyError) as error:
            yield f"{name}: unreadable ({error!r})"
            continue
        files = {n: d for n, d in file_digests(path, ".").items() if n != "manifest.json"}
        if manifest != {"digest": digest(files), "files": files}:
            yield f"{name}: not what its manifest says"
        parts = {attributes["name"]: manifest["digest"], **attributes.get("digests", {})}
        lying |= {f"{attributes['stage']}/{part}": value for part, value in parts.items()}
    for name, read in reads.items():
        others = [part for part, value in read.items() if lying.get(part) != value]
        if others:
            yield f"{name}: made from another {others[0]}"
