"""A copy of the project in which the real Snakemake and the real DVC are let loose."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from small import ROOT

ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "DVC_", "SNAKEMAKE_"))},
    "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    "DVC_NO_ANALYTICS": "1",
    "COLUMNS": "200",
}


class Workspace:
    """A folder with the project in it, and the programs one runs there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def fresh(cls, root: Path, params_file: str = "params/tiny.yaml") -> "Workspace":
        """The project as it stands, committed, with another parameter file in use."""
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listed.stdout.splitlines():
            source, target = ROOT / name, root / name
            if source.is_symlink() or source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        new = cls(root)
        new.replace("params.yaml", "params_file: params.yaml", f"params_file: {params_file}")
        new.run("git", "init", "-q")
        new.commit("start")
        return new

    def copy(self, root: Path) -> "Workspace":
        """All of it elsewhere, results, store and caches too."""
        shutil.copytree(self.root, root, symlinks=True)
        return Workspace(root)

    def run(self, *command: str, fails: bool = False, **more: str) -> str:
        """What a program prints; it must succeed (or fail)."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**ENVIRONMENT, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, f"{command} returned {done.returncode}:\n{said}"
        return said

    def snakemake(self, *arguments: str, fails: bool = False) -> str:
        """A run of Snakemake."""
        return self.run("snakemake", "--cores", "2", *arguments, fails=fails)

    def dvc(self, *arguments: str, fails: bool = False) -> str:
        """A run of DVC."""
        return self.run("dvc", *arguments, fails=fails)

    def begat(self, *arguments: str, fails: bool = False) -> str:
        """A run of our own command."""
        return self.run("begat", *arguments, fails=fails)

    def commit(self, message: str) -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a text file."""
        path = self.root / name
        text = path.read_text()
        assert old in text, f"{name} does not hold {old!r}"
        path.write_text(text.replace(old, new))

    def append(self, name: str, line: str) -> None:
        """Add a line to a text file."""
        with (self.root / name).open("a") as file:
            file.write(line + "\n")

    def change(self, section: str, key: str, value: object) -> None:
        """Change a parameter in use."""
        path = self.root / "params" / "tiny.yaml"
        head, mark, tail = path.read_text().partition(f"\n{section}:\n")
        assert mark
        new, count = re.subn(rf"(?m)^(  {key}: )({{.*?}}|\S+)", rf"\g<1>{value}", tail, count=1)
        assert count == 1, f"{section}.{key}: no such parameter in {path}"
        path.write_text(head + mark + new)

    def planned(self) -> set[str]:
        """The artifacts that Snakemake would make now, as stage or stage/name."""
        said = self.snakemake("-n")
        if "Nothing to be done" in said:
            return set()
        made = re.findall(r"^    output: (.*)$", said, re.MULTILINE)
        outputs = {output for line in made for output in line.split(", ")}
        return {o.removeprefix("results/").removesuffix(".zarr") for o in outputs}

    def assert_all_current(self) -> None:
        """Both engines find nothing to do."""
        assert self.planned() == set()
        assert "Data and pipelines are up to date." in self.dvc("status")

    def store(self) -> set[str]:
        """The keys of all that has ever been computed here."""
        folder = self.root / ".begat" / "store"
        return {p.name for p in folder.iterdir()} if folder.is_dir() else set()

    def records(self) -> dict[str, str]:
        """When each result was computed, by its key."""
        folder = self.root / "results" / "records"
        return {p.stem: json.loads(p.read_text())["started"] for p in folder.glob("*.json")}
