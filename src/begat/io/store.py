"""What has been computed once, by key: ``.begat/store/<key>``, hard-linked with the results.

DVC deletes a stage's results before it runs the stage's command, and a run may be killed or asked
for more models. Whatever the store holds is put back instead of being computed again. Every entry
carries the digest of each of its files, so damaged bytes are noticed and computed anew.
"""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from begat.errors import BegatError
from begat.io.artifacts import publish, remove
from begat.io.keys import file_digest

MANIFEST = "manifest.json"


def _link_tree(source: Path, target: Path) -> None:
    """Copy a directory by hard links, by bytes where the file system has none."""

    def link(a: str, b: str) -> str:
        try:
            os.link(a, b)
        except OSError:
            shutil.copy2(a, b)
        return b

    shutil.copytree(source, target, copy_function=link, dirs_exist_ok=True)


def file_digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file below ``folder``, by its path there."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.name != ".snakemake_timestamp":
            found[path.relative_to(folder).as_posix()] = file_digest(path)
    return found


class Store:
    """The store below one root."""

    def __init__(self, root: Path) -> None:
        self.folder = root / ".begat" / "store"

    def has(self, key: str) -> bool:
        """Whether a result with this key lies here, whole and undamaged."""
        entry = self.folder / key
        try:
            manifest = json.loads((entry / MANIFEST).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        if file_digests(entry / "artifact") == manifest:
            return True
        print(f"begat: {entry}: damaged, computed anew", file=sys.stderr)
        remove(entry)
        return False

    def path(self, key: str) -> Path:
        """Where the artifact with this key lies in the store."""
        return self.folder / key / "artifact"

    def keep(self, key: str, artifact: Path) -> None:
        """Take a finished artifact into the store."""

        def fill(scratch: Path) -> None:
            _link_tree(artifact, scratch / "artifact")
            (scratch / "artifact" / ".snakemake_timestamp").unlink(missing_ok=True)
            (scratch / MANIFEST).write_text(json.dumps(file_digests(artifact)))

        publish(self.folder / key, fill)

    def restore(self, key: str, artifact: Path) -> bool:
        """Put the artifact with this key in its place, if it is here."""
        if not self.has(key):
            return False
        publish(artifact, lambda scratch: _link_tree(self.path(key), scratch))
        return True

    def entries(self) -> dict[str, int]:
        """Keys and sizes in bytes of everything stored."""
        if not self.folder.is_dir():
            return {}
        return {
            entry.name: sum(p.stat().st_size for p in entry.rglob("*") if p.is_file())
            for entry in self.folder.iterdir()
            if (entry / MANIFEST).is_file()
        }

    def forget(self, key: str) -> None:
        """Remove one entry."""
        remove(self.folder / key)


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock that dies with the process; say ``waiting`` if it is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting, file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def only_run(root: Path) -> IO[str]:
    """The lock of a whole run; held until the returned file is closed or the process ends.

    Raises:
        BegatError: another run holds it.
    """
    path = root / ".begat" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise BegatError(
            f"{root}: another run (process {owner}) is at work in this folder; wait for it or "
            "stop it"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
