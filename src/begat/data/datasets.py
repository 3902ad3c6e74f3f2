"""Dataset index: which images and groups there are, and their pixels, one at a time.

``index`` is cheap (names, groups and a digest of every file's bytes, remembered by size and times
of change), so the plan of a run can be made from it; ``pixels`` decodes.
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
from begat.data.listings import Entry, folder, is_file, is_folder, manifest, watched
from begat.errors import BegatError

SHOWN = 5  # faults of images that a message tells of


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before any image is decoded.

    ``membership[i]`` holds the indices into ``groups`` of image ``i`` (none, one or several);
    ``digests[i]`` is the sha256 of the file (of the row, for digits); ``conditions[i]`` is what a
    manifest's column ``condition`` says of it, and the tuple is empty where there is none.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    membership: tuple[tuple[int, ...], ...]
    digests: tuple[str, ...]
    files: tuple[Path, ...] = ()
    conditions: tuple[str, ...] = ()

    def only(self, images: Iterable[int]) -> "Dataset":
        """Some of the images, with the groups of all."""
        kept = list(images)
        some = {
            name: tuple(values[i] for i in kept) if (values := getattr(self, name)) else ()
            for name in ("names", "membership", "digests", "files", "conditions")
        }
        return replace(self, **some)

    @property
    def classes(self) -> tuple[str, ...]:
        """What a conditional model may be told of an image: conditions, else groups."""
        return tuple(sorted({*self.conditions} - {""})) if self.conditions else self.groups

    @property
    def labels(self) -> list[int]:
        """Each image's class, as an index into ``classes``; -1 where it has none, or several."""
        if self.conditions:
            number = {name: i for i, name in enumerate(self.classes)}
            return [number.get(name, -1) for name in self.conditions]
        return [of[0] if len(of) == 1 else -1 for of in self.membership]

    @property
    def group_names(self) -> list[tuple[str, ...]]:
        """The names of each image's groups."""
        return [tuple(self.groups[group] for group in of) for of in self.membership]

    @property
    def digest(self) -> str:
        """One digest of all that the pixels, groups and classes follow from."""
        whole = [self.names, self.groups, self.membership, self.digests, self.conditions]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def index(params: Images | Queries, root: Path) -> Dataset:
    """Returns the dataset that a section names.

    Raises:
        BegatError: no such place, no image in it, a manifest that names a missing file or lacks
            its columns, a group without images or with all of them.
    """
    dataset = SOURCES[params.source](root, params.path)
    return _thinned(dataset, params.max_images) if isinstance(params, Images) else dataset


def _thinned(dataset: Dataset, limit: int) -> Dataset:
    """``limit`` images, evenly spread over the whole; 0 keeps all."""
    total = len(dataset.names)
    if not 0 < limit < total:
        return dataset
    found = dataset.only(i * total // limit for i in range(limit))
    there = {group for of in found.membership for group in of}
    if empty := [g for n, g in enumerate(dataset.groups) if n not in there]:
        raise BegatError(f"images.max_images: {limit} images leave none of group {empty[0]!r}")
    return found


def _folder(root: Path, path: str) -> Dataset:
    """The images of a directory or of a manifest."""
    place = watched(path, root)
    if is_folder(place):
        entries = folder(place)
    elif place.suffix == ".csv" and is_file(place):
        entries = manifest(place, root)
    else:
        raise BegatError(f"{place}: expected a directory or a .csv manifest, found neither")
    if not entries:
        raise BegatError(f"{place}: no image here; expected {', '.join(SUFFIXES)} files")
    return _dataset(entries, root / ".begat" / "digests.json")


def _dataset(entries: list[Entry], memory: Path) -> Dataset:
    groups = tuple(sorted({group for entry in entries for group in entry.groups}))
    number = {group: i for i, group in enumerate(groups)}
    files = tuple(entry.path for entry in entries)
    return Dataset(
        names=tuple(entry.name for entry in entries),
        groups=groups,
        membership=tuple(tuple(sorted(number[g] for g in entry.groups)) for entry in entries),
        digests=tuple(file_digests(files, memory)),
        files=files,
        conditions=tuple(e.condition for e in entries if e.condition is not None),
    )


def _digits(root: Path, path: str) -> Dataset:
    """The digits that come with scikit-learn."""
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
    """Raise BegatError where a group is everything: without it nothing would be left."""
    for number, group in enumerate(dataset.groups):
        if all(number in of for of in dataset.membership):
            raise BegatError(
                f"group {group!r} holds all {len(dataset.names)} images, so there is nothing to "
                "compare it with; expected at least one image outside it"
            )


def pixels(dataset: Dataset, params: Images) -> Iterator[Pixels]:
    """The pixels of every image, in order.

    Raises:
        BegatError: files that cannot be decoded whole, or have another size than asked for while
            ``resize`` is ``refuse``, or other bytes than ``digests`` says. All are looked at
            before, and the first few are named.
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
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise BegatError(
            f"{len(faults)} of {len(dataset.files)} images cannot be used: "
            f"{'; '.join(faults[:SHOWN])}{more}"
        )
    if faults:
        raise BegatError(faults[0])


def _decoded(path: Path, digest: str, params: Images) -> Pixels:
    """One image, if its file has the bytes of this digest."""
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
