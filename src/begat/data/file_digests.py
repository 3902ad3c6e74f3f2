"""Digests of files, cached by size and times of change."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from begat.errors import BegatError, brief
from begat.storage.digests import digest, file_digest

Entries = dict[str, list]  # path -> [[size, times of change, inode], sha256]


def file_digests(files: Iterable[Path], cache: Path) -> list[str]:
    """Returns the sha256 of every file, read again only if its size or a time of change differ.

    A file whose bytes changed while its times did not (a failing disk) keeps its former digest;
    ``datasets.pixels`` compares the digest with the bytes that it decodes.

    Args:
        files: the files.
        cache: where digests are cached; a damaged cache is written again.

    Raises:
        BegatError: a file that cannot be read.
    """
    cached, current = _read(cache), Entries()
    for path in files:
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
            entry = cached.get(str(path), [])
            current[str(path)] = entry if entry[:1] == [stamp] else [stamp, file_digest(path)]
        except OSError as error:
            raise BegatError(f"{path}: could not be read ({brief(error.strerror)})") from None
    if not current.items() <= cached.items():
        _write(cache, {**cached, **current})
    return [current[str(path)][1] for path in files]


def _read(cache: Path) -> Entries:
    """Returns the entries of an undamaged cache, else none."""
    try:
        content = json.loads(cache.read_bytes())
        if content["sha256"] == digest(content["files"]):
            entries: Entries = content["files"]
            return entries
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        pass
    return {}


def _write(cache: Path, entries: Entries) -> None:
    """Write the cache in one step; if that fails, digests are computed again next time."""
    scratch = cache.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_text(json.dumps({"sha256": digest(entries), "files": entries}))
            scratch.replace(cache)
        finally:
            scratch.unlink(missing_ok=True)
