"""What has been computed once, by key: ``.begat/store/<key>``, hard-linked with the results.

A run may be killed, asked for more models, or for parameters that were asked for before. Whatever
the store holds is put back instead of being computed again, if it is whole and was computed from
the very bits that lie in the results now.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

from begat.errors import BegatError
from begat.storage.artifacts import publish, remove, stored_attributes
from begat.storage.manifests import MANIFEST, OTHERS, damage

Read = Mapping[str, str | None]  # the content digest of everything a result was computed from


def link_tree(source: Path, target: Path) -> None:
    """Copy an artifact by hard links, by bytes where the file system has none."""

    def link(a: str, b: str) -> str:
        try:
            os.link(os.path.realpath(a), b)
        except OSError:
            shutil.copy2(a, b)
        return b

    ignore = shutil.ignore_patterns(*OTHERS)
    shutil.copytree(source, target, copy_function=link, dirs_exist_ok=True, ignore=ignore)


class Store:
    """The store below one root."""

    def __init__(self, root: Path) -> None:
        self.folder = root / ".begat" / "store"

    def holds(self, key: str) -> bool:
        """Whether there is an entry for this key, in whatever state."""
        return (self.path(key) / MANIFEST).is_file()

    def has(self, key: str, read: Read) -> bool:
        """Whether a result with this key lies here undamaged, computed from the same bits."""
        entry = self.path(key)
        if not os.path.lexists(entry):
            return False
        if damage(entry):
            print(f"begat: {entry}: damaged, computed anew", file=sys.stderr)
            remove(entry)
            return False
        return (stored_attributes(entry) or {}).get("read") == read

    def path(self, key: str) -> Path:
        """Where the artifact with this key lies in the store."""
        return self.folder / key

    def keep(self, key: str, artifact: Path) -> None:
        """Take a finished artifact into the store."""
        publish(self.path(key), lambda scratch: link_tree(artifact, scratch))

    def restore(self, key: str, artifact: Path, read: Read) -> bool:
        """Put the artifact with this key in its place, if ``has`` says that it is here."""
        if not self.has(key, read):
            return False
        publish(artifact, lambda scratch: link_tree(self.path(key), scratch))
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
        remove(self.path(key))


def _lock(path: Path) -> FileLock:
    """A lock of the kernel's, which dies with the process that holds it; the file stays.

    Never filelock's substitute for a file system without ``flock``: that one outlives a killed
    owner. There the lock raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False, fallback_to_soft=False)


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock that dies with the process; say ``waiting`` if it is taken."""
    lock = _lock(path)
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        print(waiting, file=sys.stderr, flush=True)
        held = lock.acquire()
    with held:
        yield


def only_run(root: Path) -> AcquireReturnProxy:
    """The lock of a whole run, a context; held until its end, or the process's.

    Raises:
        BegatError: another run holds it.
    """
    path = root / ".begat" / "lock"
    try:
        run = _lock(path).acquire(blocking=False)
    except Timeout:
        owner = path.read_text().strip() or "unknown"
        raise BegatError(
            f"{root}: another run (process {owner}) is at work in this folder; wait for it or "
            "stop it"
        ) from None
    path.write_text(str(os.getpid()))
    return run
