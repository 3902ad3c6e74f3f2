"""What an artifact's files were when it was written: a manifest beside them, ``manifest.json``.

The *content digest* of an artifact is the sha256 of the table of its files' sha256: all arrays and
all attributes, so that nothing in it can change unseen. The manifest travels wherever the
artifact's folder goes.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from begat.errors import BegatError
from begat.storage.digests import digest, file_digest

MANIFEST = "manifest.json"
OTHERS = ("", ".snakemake_timestamp")  # files that are none of the artifact's


def _files(folder: Path) -> list[str]:
    """The paths of all an artifact's files below its folder, the manifest's too."""
    paths = []
    for place, _, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        paths += [(inside / name).as_posix() for name in names if name not in OTHERS]
    return sorted(paths)


def file_digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file below ``folder``, by its path there; none where it is no file."""
    names = [name for name in _files(folder) if name != MANIFEST]
    return {n: file_digest(folder / n) if (folder / n).is_file() else "" for n in names}


def seal(folder: Path) -> str:
    """Write the manifest of a finished folder, and return its content digest."""
    files = file_digests(folder)
    whole = {"digest": digest(files), "files": files}
    (folder / MANIFEST).write_text(json.dumps(whole, indent=0))
    return whole["digest"]  # type: ignore[return-value]


def manifest_of(folder: Path) -> dict[str, str] | None:
    """The digests in a folder's manifest; None where there is no manifest, or a damaged one."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files: dict[str, str] = manifest["files"]
        return files if manifest["digest"] == digest(files) and "zarr.json" in files else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def content_digest(folder: Path) -> str | None:
    """The content digest that a folder's manifest states, None where there is none."""
    files = manifest_of(folder)
    return None if files is None else digest(files)


def damage(folder: Path) -> list[str]:
    """The files below ``folder`` that are not what was written, lost or added; all are read."""
    expected = manifest_of(folder)
    if expected is None:
        return [MANIFEST]
    try:
        actual = file_digests(folder)
    except OSError as error:
        return [f"{error.filename} ({error.strerror})"]
    return sorted(n for n in {*expected, *actual} if expected.get(n) != actual.get(n))


def stamp(folder: Path) -> str:
    """A digest of sizes, times and places of a folder's files, without reading them."""
    stamps = []
    for name in _files(folder):
        status = os.stat(folder / name, follow_symlinks=True)
        times = status.st_mtime_ns, status.st_ctime_ns
        stamps.append([name, status.st_size, *times, status.st_ino])
    return digest(stamps)


def sync(folder: Path) -> None:
    """Bring every file and folder below ``folder`` to the disk itself, against a power cut."""
    for place, _, names in os.walk(folder):
        for path in (*(os.path.join(place, name) for name in names), place):
            sync_one(Path(path))


def sync_one(path: Path) -> None:
    """Bring one file, or the names in one folder, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def put_text(path: Path, text: str) -> None:
    """Write a whole text file in one step, on the disk before it has its name.

    Raises:
        BegatError: the disk refused; nothing has changed then.
    """
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(text)
        sync_one(scratch)
        scratch.replace(path)
    except OSError as error:
        raise BegatError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            scratch.unlink()


class Verified:
    """Which artifacts were seen whole: remembered, so that only what changed is read again."""

    def __init__(self, root: Path) -> None:
        self._root, self._folder = root, root / ".begat" / "verified"

    def note(self, path: Path) -> None:
        """Remember an artifact as it lies there now; where the disk refuses, nothing."""
        with suppress(BegatError):
            put_text(self._memory(path), stamp(path))

    def whole(self, path: Path) -> bool:
        """Whether an artifact is what was written; read only if touched since it was last seen."""
        try:
            if self._memory(path).read_bytes() == stamp(path).encode():
                return True
        except OSError:
            pass
        return not self.damage(path)

    def damage(self, path: Path) -> list[str]:
        """The files of an artifact that are not what was written; all are read."""
        damaged = damage(path)
        if damaged:
            self._memory(path).unlink(missing_ok=True)
        else:
            self.note(path)
        return damaged

    def _memory(self, path: Path) -> Path:
        return self._folder / path.relative_to(self._root).as_posix().replace("/", "-")
