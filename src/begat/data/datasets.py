"""Dataset index: which images and groups there are, and their pixels, one at a time.

``index`` is cheap (names, groups and a digest of every file's bytes, cached by size and times of
change), so that a run is planned from it; ``pixels`` decodes. To add a source, add an entry to
``SOURCES`` and a test.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from begat.config.schema import Images, Queries
from begat.data.digits import PREFIX, digit_class, digit_pixels, digit_rows
from begat.data.file_digests import file_digests
from begat.data.image_files import SUFFIXES, Pixels, decode
from begat.data.listings import Entry, folder, is_file, is_folder, manifest, resolve_under_data
from begat.errors import BegatError

MAX_SHOWN = 5  # faulty images that an error message names


@dataclass(frozen=True)
class Dataset:
    """A dataset before any image is decoded.

    Attributes:
        names: of the images.
        groups: names of all groups.
        membership: of each image, indices into ``groups`` (none, one or several).
        digests: sha256 of each file (of each row, for digits).
        files: empty for a source without files.
        conditions: the cells of a manifest's column ``condition``; empty without such a column.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    membership: tuple[tuple[int, ...], ...]
    digests: tuple[str, ...]
    files: tuple[Path, ...] = ()
    conditions: tuple[str, ...] = ()

    def only(self, images: Iterable[int]) -> "Dataset":
        """Returns a subset of the images, with the groups of all."""
        indices = list(images)
        subset = {
            name: tuple(values[i] for i in indices) if (values := getattr(self, name)) else ()
            for name in ("names", "membership", "digests", "files", "conditions")
        }
        return replace(self, **subset)

    @property
    def classes(self) -> tuple[str, ...]:
        """Returns the classes of a conditional model: the conditions, or else the groups."""
        return tuple(sorted({*self.conditions} - {""})) if self.conditions else self.groups

    @property
    def labels(self) -> list[int]:
        """Returns each image's class, as an index into ``classes``; -1 for none, or several."""
        if self.conditions:
            number = {name: i for i, name in enumerate(self.classes)}
            return [number.get(name, -1) for name in self.conditions]
        return [groups[0] if len(groups) == 1 else -1 for groups in self.membership]

    @property
    def group_names(self) -> list[tuple[str, ...]]:
        """Returns the names of each image's groups."""
        return [tuple(self.groups[group] for group in groups) for groups in self.membership]

    @property
    def digest(self) -> str:
        """Returns one digest of everything that determines pixels, groups and classes."""
        content = [self.names, self.groups, self.membership, self.digests, self.conditions]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def index(params: Images | Queries, root: Path) -> Dataset:
    """Returns the dataset that a section names.

    Raises:
        BegatError: no such place, no image in it, a manifest that names a missing file or lacks
            its columns, a group without images or with all of them.
    """
    dataset = SOURCES[params.source](root, params.path)
    return _thinned(dataset, params.max_images) if isinstance(params, Images) else dataset


def _thinned(dataset: Dataset, limit: int) -> Dataset:
    """Returns ``limit`` images, evenly spread over the whole; all of them where it is 0."""
    total = len(dataset.names)
    if not 0 < limit < total:
        return dataset
    subset = dataset.only(i * total // limit for i in range(limit))
    present = {group for groups in subset.membership for group in groups}
    if empty := [name for group, name in enumerate(dataset.groups) if group not in present]:
        raise BegatError(f"images.max_images: {limit} images leave none of group {empty[0]!r}")
    return subset


def _folder(root: Path, path: str) -> Dataset:
    """Returns the images of a directory or of a manifest."""
    place = resolve_under_data(path, root)
    if is_folder(place):
        entries = folder(place)
    elif place.suffix == ".csv" and is_file(place):
        entries = manifest(place, root)
    else:
        raise BegatError(f"{place}: expected a directory or a .csv manifest, found neither")
    if not entries:
        raise BegatError(f"{place}: no image here; expected {', '.join(SUFFIXES)} files")
    return _dataset(entries, root / ".begat" / "digests.json")


def _dataset(entries: list[Entry], cache: Path) -> Dataset:
    groups = tuple(sorted({group for entry in entries for group in entry.groups}))
    number = {group: i for i, group in enumerate(groups)}
    files = tuple(entry.path for entry in entries)
    return Dataset(
        names=tuple(entry.name for entry in entries),
        groups=groups,
        membership=tuple(tuple(sorted(number[g] for g in entry.groups)) for entry in entries),
        digests=tuple(file_digests(files, cache)),
        files=files,
        conditions=tuple(e.condition for e in entries if e.condition is not None),
    )


def _digits(root: Path, path: str) -> Dataset:
    """Returns the embedded digits."""
    rows = digit_rows()
    return Dataset(
        names=tuple(f"{PREFIX}{i:04d}" for i in range(len(rows))),
        groups=tuple(str(d) for d in range(10)),
        membership=tuple((digit_class(row),) for row in rows),
        digests=tuple(hashlib.sha256(row).hexdigest() for row in rows),
    )


SOURCES: dict[str, Callable[[Path, str], Dataset]] = {  # of (root, path)
    "digits": _digits,
    "folder": _folder,
}


def check_groups(dataset: Dataset) -> None:
    """Raise BegatError where a group holds all images: nothing would be left without it."""
    for number, group in enumerate(dataset.groups):
        if all(number in groups for groups in dataset.membership):
            raise BegatError(
                f"group {group!r} holds all {len(dataset.names)} images, so there is nothing to "
                "compare it with; expected at least one image outside it"
            )


def pixels(dataset: Dataset, params: Images) -> Iterator[Pixels]:
    """Yields the pixels of every image, in order.

    Raises:
        BegatError: files that cannot be decoded whole, or have another size than ``params.size``
            while ``resize`` is ``refuse``, or other bytes than those of ``digests``. It is raised
            after all files were tried, and names the first of them.
    """
    if not dataset.files:
        yield from digit_pixels(dataset.names, params)
        return
    faults = []
    for path, expected in zip(dataset.files, dataset.digests, strict=True):
        try:
            image = _decoded(path, expected, params)
        except BegatError as error:
            faults.append(str(error))
            continue
        if not faults:
            yield image
    if len(faults) > 1:
        more = f"; and {len(faults) - MAX_SHOWN} more" if len(faults) > MAX_SHOWN else ""
        raise BegatError(
            f"{len(faults)} of {len(dataset.files)} images cannot be used: "
            f"{'; '.join(faults[:MAX_SHOWN])}{more}"
        )
    if faults:
        raise BegatError(faults[0])


def _decoded(path: Path, digest: str, params: Images) -> Pixels:
    """Returns one image, if its file has the bytes of this digest."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BegatError(f"{path}: missing") from None
    except OSError as error:
        raise BegatError(f"{path}: could not be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise BegatError(
            f"{path}: its bytes are not those that this run was planned with; restore the file, or "
            "`touch` it to take it as it is, and run again"
        )
    return decode(path, content, params.size, params.channels, params.resize)
