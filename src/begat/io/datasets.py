"""Datasets at the door: which images and groups there are, and their pixels, one at a time.

``index`` is cheap (names, groups and a digest of every file's bytes, remembered by size and time
of change), so the plan of a run can be made from it; ``pixels`` decodes.
"""

import csv
import gzip
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from begat.errors import BegatError

SUFFIXES = (".png", ".jpg", ".jpeg")
DIGIT = "digit-"  # then its number among all
CONDITION = "condition"  # the column of a manifest with each image's class
Pixels = UInt8[np.ndarray, "channel y x"]


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
    def digest(self) -> str:
        """One digest of all that the pixels, groups and classes follow from."""
        whole = [self.names, self.groups, self.membership, self.digests, self.conditions]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def index(params: Mapping[str, Any], root: Path) -> Dataset:
    """The dataset that the section ``images`` (or ``queries``) names.

    Raises:
        BegatError: no such place, no image in it, a manifest that names a missing file or lacks
            its columns, a group without images or with all of them.
    """
    return _thinned(_whole(params, root), params.get("limit", 0))


def _thinned(dataset: Dataset, limit: int) -> Dataset:
    """``limit`` images, evenly spread over the whole; 0 keeps all."""
    total = len(dataset.names)
    if not 0 < limit < total:
        return dataset
    kept = [i * total // limit for i in range(limit)]
    there = {group for i in kept for group in dataset.membership[i]}
    if empty := [g for n, g in enumerate(dataset.groups) if n not in there]:
        raise BegatError(f"images.limit: {limit} images leave none of group {empty[0]!r}")
    return Dataset(
        names=tuple(dataset.names[i] for i in kept),
        groups=dataset.groups,
        membership=tuple(dataset.membership[i] for i in kept),
        digests=tuple(dataset.digests[i] for i in kept),
        files=tuple(dataset.files[i] for i in kept) if dataset.files else (),
        conditions=tuple(dataset.conditions[i] for i in kept) if dataset.conditions else (),
    )


def watched(path: str, root: Path) -> Path:
    """Where ``path`` lies.

    Raises:
        BegatError: outside ``data/``, where DVC would not notice a change.
    """
    place = root / path
    if not place.resolve().is_relative_to((root / "data").resolve()) and not (
        place.is_relative_to(root / "data")
    ):
        raise BegatError(
            f"{path}: expected a path under data/, where DVC watches it; move or link it"
        )
    return place


def _whole(params: Mapping[str, Any], root: Path) -> Dataset:
    if params["source"] == "digits":
        return _digits()
    place = watched(params["path"], root)
    conditions: tuple[str, ...] = ()
    if place.is_dir():
        found = list(_folder(place))
    elif place.suffix == ".csv" and place.is_file():
        found, conditions = list(_manifest(place)), tuple(_conditions(place))
    else:
        raise BegatError(f"{place}: expected a directory or a .csv manifest, found neither")
    if not found:
        raise BegatError(f"{place}: no image here; expected {', '.join(SUFFIXES)} files")
    groups = tuple(sorted({g for _, _, of in found for g in of}))
    number = {g: i for i, g in enumerate(groups)}
    files = tuple(path for path, _, _ in found)
    return Dataset(
        names=tuple(name for _, name, _ in found),
        groups=groups,
        membership=tuple(tuple(sorted(number[g] for g in of)) for _, _, of in found),
        digests=tuple(_file_digests(files, root / ".begat" / "digests.json")),
        files=files,
        conditions=conditions,
    )


def check_groups(dataset: Dataset) -> None:
    """Raise BegatError where a group is everything: without it nothing would be left."""
    for number, group in enumerate(dataset.groups):
        if all(number in of for of in dataset.membership):
            raise BegatError(
                f"group {group!r} holds all {len(dataset.names)} images, so there is nothing to "
                "compare it with; expected at least one image outside it"
            )


def pixels(dataset: Dataset, params: Mapping[str, Any]) -> Iterator[tuple[str, Pixels]]:
    """Name and pixels of every image, in order.

    Raises:
        BegatError: a file that cannot be decoded whole, or has another size than asked for while
            ``resize`` is ``refuse``.
    """
    if not dataset.files:
        chosen = {int(name.removeprefix(DIGIT)) for name in dataset.names}
        found = (p for i, p in enumerate(_digit_pixels(params)) if i in chosen)
        yield from zip(dataset.names, found, strict=True)
    for name, path in zip(dataset.names, dataset.files, strict=False):
        yield name, decode(path, params["size"], params["channels"], params["resize"])


def decode(path: Path, size: int, channels: int, resize: str) -> Pixels:
    """One image file as unsigned bytes, of the asked size and number of channels.

    ``crop`` takes the central square, ``stretch`` the whole; both then resample by area
    (Pillow's box-supported Lanczos). Colour becomes grey by luma, grey becomes colour by copying,
    transparency is laid over white.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode[:1] in "IF":
                raise BegatError(f"{path}: expected 8 bits per channel, found mode {image.mode}")
            picture: Image.Image = image
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                picture = Image.new("RGBA", image.size, "white")
                picture.alpha_composite(image.convert("RGBA"))
            picture = picture.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError:
        raise BegatError(f"{path}: missing") from None
    except UnidentifiedImageError:
        raise BegatError(f"{path}: expected a PNG or JPEG image, found something else") from None
    except BegatError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BegatError(f"{path}: damaged image ({error}); replace or remove it") from None
    if picture.size != (size, size):
        if resize == "refuse":
            raise BegatError(
                f"{path}: expected {size}x{size} pixels (images.size), found "
                f"{picture.width}x{picture.height}; set images.resize to crop or stretch"
            )
        if resize == "crop":
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(size, size, channels).transpose(2, 0, 1)


def _folder(place: Path) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Images directly inside belong to no group, those in a sub-folder to it."""
    for path in sorted(place.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            parts = path.relative_to(place).parts
            yield path, "/".join(parts), parts[:1] if len(parts) > 1 else ()
    for folder in sorted(p for p in place.iterdir() if p.is_dir()):
        if not any(p.suffix.lower() in SUFFIXES for p in folder.rglob("*")):
            raise BegatError(f"{folder}: a group without any image; add some or remove the folder")


def _manifest(place: Path) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Rows of ``path,group[,group...]`` under a header; paths are relative to the manifest.

    A column ``condition`` is no kind of group: it is read by ``_conditions``.
    """
    with place.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if "path" not in columns:
            raise BegatError(f"{place}: expected a column named path, found {', '.join(columns)}")
        group_columns = [c for c in columns if c not in ("path", CONDITION)]
        seen: dict[str, int] = {}
        for row in reader:
            found = [v for k, v in row.items() if k is not None and v is not None]
            found += row.get(None) or []
            if len(found) != len(columns):
                raise BegatError(
                    f"{place}: line {reader.line_num}: expected {len(columns)} columns, found "
                    f"{len(found)}"
                )
            name = row["path"]
            if name in seen:
                raise BegatError(
                    f"{place}: line {reader.line_num}: {name} stands on line {seen[name]} already; "
                    "give an image several groups by further columns"
                )
            seen[name] = reader.line_num
            path = place.parent / name
            if not path.is_file():
                raise BegatError(f"{place}: line {reader.line_num}: {name}: no such file")
            label = "{value}" if len(group_columns) == 1 else "{column}: {value}"
            yield (
                path,
                name,
                tuple(label.format(column=c, value=row[c]) for c in group_columns if row[c]),
            )


def _conditions(place: Path) -> Iterator[str]:
    """The column ``condition`` of a manifest that ``_manifest`` has checked, if it has one."""
    with place.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if CONDITION in (reader.fieldnames or []):
            yield from (row[CONDITION] for row in reader)


def _file_digests(files: tuple[Path, ...], memory: Path) -> Iterator[str]:
    """sha256 of every file, read again only where size or time of change differ from last time."""
    known = json.loads(memory.read_text()) if memory.is_file() else {}
    digests: dict[str, list[Any]] = {}
    for path in files:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
        before = known.get(str(path))
        if before and before[0] == stamp:
            digests[str(path)] = before
        else:
            with path.open("rb") as file:
                digests[str(path)] = [stamp, hashlib.file_digest(file, "sha256").hexdigest()]
        yield digests[str(path)][1]
    if digests != {k: v for k, v in known.items() if k in digests}:
        memory.parent.mkdir(parents=True, exist_ok=True)
        scratch = memory.with_suffix(".tmp")
        scratch.write_text(json.dumps({**known, **digests}))
        scratch.replace(memory)


def _digits_rows() -> list[bytes]:
    """scikit-learn's file of digits: 64 levels 0..16 and a class per row (without importing it)."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise BegatError("images.source: digits come with scikit-learn, which is not installed")
    with gzip.open(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz") as file:
        return file.read().split()


def _digits() -> Dataset:
    rows = _digits_rows()
    return Dataset(
        names=tuple(f"{DIGIT}{i:04d}" for i in range(len(rows))),
        groups=tuple(str(d) for d in range(10)),
        membership=tuple((int(float(row.rsplit(b",", 1)[1])),) for row in rows),
        digests=tuple(hashlib.sha256(row).hexdigest() for row in rows),
    )


def _digit_pixels(params: Mapping[str, Any]) -> Iterator[Pixels]:
    size = params["size"]
    for row in _digits_rows():
        levels = np.array(row.split(b",")[:64], float).reshape(8, 8)
        image = np.round(levels * (255 / 16)).astype(np.uint8)
        if size != 8:
            if params["resize"] == "refuse":
                raise BegatError(
                    f"images.size: digits have 8x8 pixels, found {size}; set images.resize to "
                    "stretch"
                )
            picture = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)
            image = np.asarray(picture)
        yield image[None]
