"""Digests (sha256) of values and of files."""

import hashlib
import json
from pathlib import Path

from begat.errors import BegatError


def digest(value: object) -> str:
    """The sha256 of a value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes.

    Raises:
        BegatError: no such file.
    """
    if not path.is_file():
        raise BegatError(f"{path}: expected a file, found none")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
