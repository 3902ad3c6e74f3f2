"""Listings of image files with their groups, from a folder or a manifest.

No file that might be an image is ignored silently. Ignored are hidden files (a leading dot, as
macOS's ``.DS_Store`` and ``._0.png``), ``Thumbs.db``, and files in formats other than images.
"""

import csv
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from begat.data.image_files import SUFFIXES
from begat.errors import BegatError, brief

CONDITION = "condition"  # the column of a manifest with each image's class
IGNORED = ("Thumbs.db", "desktop.ini", "__MACOSX")
UNSUPPORTED = (".avif", ".heic", ".heif", ".jxl", ".svg")  # beside those that Pillow knows
MAX_DEPTH = 50  # folders within folders
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # \ud8..: not UTF-8


class Entry(NamedTuple):
    """One image: its file, its name, its groups and its class in a manifest."""

    path: Path
    name: str
    groups: tuple[str, ...]
    condition: str | None = None


def resolve_under_data(path: str | Path, root: Path) -> Path:
    """Returns the place of ``path``, relative to ``root``.

    A link below ``data/`` may lead anywhere, and a link elsewhere may lead there.

    Raises:
        BegatError: outside ``data/``, where DVC would not notice a change.
    """
    data, place = (Path(os.path.normpath(root / p)) for p in ("data", path))
    if status(place) and place.resolve().is_relative_to(data.resolve()):
        return place
    if not place.is_relative_to(data):
        raise BegatError(
            f"{brief(path)}: expected a path under data/, where DVC watches it; move or link it"
        )
    return place


def status(path: Path) -> os.stat_result | None:
    """Returns the status of a path, links followed, or None if nothing is there.

    Raises:
        BegatError: a loop of links, a path too long, a folder without permission.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        reason = getattr(error, "strerror", None) or error
        raise BegatError(f"{brief(path)}: could not be read ({brief(reason)})") from None


def is_file(path: Path) -> bool:
    """Returns whether a path leads to an ordinary file."""
    result = status(path)
    return result is not None and stat.S_ISREG(result.st_mode)


def is_folder(path: Path) -> bool:
    """Returns whether a path leads to a folder."""
    result = status(path)
    return result is not None and stat.S_ISDIR(result.st_mode)


def folder(place: Path) -> list[Entry]:
    """Returns the images below a folder; each sub-folder is a group.

    Raises:
        BegatError: a sub-folder without images; what might be meant as an image and is none.
    """
    entries = []
    for path in _files(place, ()):
        parts = path.relative_to(place).parts
        entries.append(Entry(path, "/".join(parts), parts[:1] if len(parts) > 1 else ()))
    groups = {entry.groups for entry in entries}
    for path in _listed(place):
        if is_folder(path) and (path.name,) not in groups:
            raise BegatError(f"{path}: a group without any image; add some or remove the folder")
    return entries


def _files(place: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yields the images below a folder, links followed, sorted by name within each folder."""
    here = place.stat()
    if (here.st_dev, here.st_ino) in above:
        raise BegatError(f"{place}: a link to a folder that it lies in; remove it")
    if len(above) > MAX_DEPTH:
        raise BegatError(f"{brief(place)}: expected at most {MAX_DEPTH} folders within one another")
    for path in _listed(place):
        result = status(path)
        if result is None:
            raise BegatError(f"{path}: a link to nothing; fix or remove it")
        if stat.S_ISDIR(result.st_mode):
            if _is_image(path):
                raise BegatError(f"{path}: expected an image, found a folder; rename it")
            yield from _files(path, (*above, (here.st_dev, here.st_ino)))
        elif not stat.S_ISREG(result.st_mode):
            raise BegatError(f"{path}: expected a file, found a pipe, socket or device; remove it")
        elif _is_image(path):
            yield path


def _listed(place: Path) -> list[Path]:
    """Returns the paths in a folder by name, without hidden files."""
    try:
        paths = sorted(place.iterdir())
    except OSError as error:
        raise BegatError(f"{place}: could not be read ({brief(error.strerror)})") from None
    visible = [p for p in paths if not p.name.startswith(".") and p.name not in IGNORED]
    for path in visible:
        _check_text(str(place), path.name, "name")
    return visible


def _is_image(path: Path) -> bool:
    """Returns whether a file has the suffix of an image.

    Raises:
        BegatError: the suffix is that of a format which is not supported.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    if suffix in UNSUPPORTED or suffix in Image.registered_extensions():
        expected = ", ".join(SUFFIXES)
        raise BegatError(f"{path}: expected images as {expected}; convert, move or remove it")
    return False


def _check_text(where: str, text: str, kind: str) -> None:
    """Raise BegatError for names that could not be stored as UTF-8, or shown in one line."""
    if UNPRINTABLE.search(text):
        raise BegatError(
            f"{where}: {brief(ascii(text))}: expected a {kind} in UTF-8 without control characters"
        )


def manifest(place: Path, root: Path) -> list[Entry]:
    """Returns the rows of a CSV file: ``path``, and one column for each kind of group.

    Paths are relative to the manifest. Spaces around a cell are ignored, except in the column
    ``path``. The column ``condition`` holds classes and is no kind of group.

    Raises:
        BegatError: not UTF-8, not CSV, a row that lacks a cell, a path that is no file below
            ``data/`` or is in another row too.
    """
    try:
        with place.open(newline="", encoding="utf-8-sig") as file:
            return list(_rows(csv.DictReader(file), place, root))
    except UnicodeDecodeError as error:
        raise BegatError(
            f"{place}: expected UTF-8, found {brief(error)}; save it as UTF-8"
        ) from None
    except csv.Error as error:
        raise BegatError(f"{place}: expected CSV, found {brief(error)}") from None
    except OSError as error:
        raise BegatError(f"{place}: could not be read ({brief(error.strerror)})") from None


def _rows(reader: csv.DictReader, place: Path, root: Path) -> Iterator[Entry]:
    columns = reader.fieldnames = [column.strip() for column in reader.fieldnames or []]
    if "path" not in columns:
        names = brief(", ".join(columns))
        raise BegatError(f"{place}: expected a column named path, found {names}")
    if len({*columns, ""}) <= len(columns):
        raise BegatError(f"{place}: expected a name of its own for each column, found {columns}")
    kinds = [column for column in columns if column not in ("path", CONDITION)]
    label = "{value}" if len(kinds) == 1 else "{column}: {value}"
    line_of: dict[str, int] = {}
    for row in reader:
        where = f"{place}: line {reader.line_num}"
        cells = [v for k, v in row.items() if k is not None and v is not None]
        cells += row.get(None) or []
        if len(cells) != len(columns):
            raise BegatError(f"{where}: expected {len(columns)} columns, found {len(cells)}")
        for cell in cells:
            _check_text(where, cell, "text")
        name = os.path.normpath(row["path"])
        if name in line_of:
            raise BegatError(
                f"{where}: {brief(name)} is on line {line_of[name]} already; give an image "
                "several groups by further columns"
            )
        line_of[name] = reader.line_num
        value = {column: row[column].strip() for column in (*kinds, CONDITION) if column in row}
        yield Entry(
            _manifest_file(where, place.parent, name, root),
            name,
            tuple(label.format(column=c, value=value[c]) for c in kinds if value[c]),
            value.get(CONDITION),
        )


def _manifest_file(where: str, folder: Path, name: str, root: Path) -> Path:
    """Returns the file that a row of a manifest in ``folder`` names."""
    try:
        if Path(name).is_absolute():
            raise BegatError("expected a path relative to the manifest")
        path = resolve_under_data(folder / name, root)
        if not is_file(path):
            raise BegatError("no such file")
    except BegatError as error:
        raise BegatError(f"{where}: {brief(name, 60)}: {error}") from None
    return path
