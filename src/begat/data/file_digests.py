"""Digests of files, remembered by size and times of change."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from begat.errors import BegatError, brief
from begat.storage.digests import digest, file_digest

Known = dict[str, list]  # path -> [[size, times of change, inode], sha256]


def file_digests(files: Iterable[Path], memory: Path) -> list[str]:
    """sha256 of every file, read again only where size or a time of change differ from last time.

    A file whose bytes changed while its times did not (a failing disk) keeps its former digest;
    ``datasets.pixels`` compares the digest with the bytes that it decodes.

    Args:
        files: which files.
        memory: where digests are remembered; a damaged memory is made anew.

    Raises:
        BegatError: a file that cannot be read.
    """
    known, digests = _remembered(memory), Known()
    for path in files:
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
            before = known.get(str(path), [])
            if before[:1] == [stamp]:
                digests[str(path)] = before
                continue
            digests[str(path)] = [stamp, file_digest(path)]
        except OSError as error:
            raise BegatError(f"{path}: could not be read ({brief(error.strerror)})") from None
    if not digests.items() <= known.items():
        _remember(memory, {**known, **digests})
    return [digests[str(path)][1] for path in files]


def _remembered(memory: Path) -> Known:
    """What an undamaged memory holds, else nothing."""
    try:
        held = json.loads(memory.read_bytes())
        if held["sha256"] == digest(held["files"]):
            found: Known = held["files"]
            return found
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        pass
    return {}


def _remember(memory: Path, files: Known) -> None:
    """Write the memory in one step; without it, digests are computed again."""
    scratch = memory.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_text(json.dumps({"sha256": digest(files), "files": files}))
            scratch.replace(memory)
        finally:
            scratch.unlink(missing_ok=True)
