"""Artifacts on disk: written beside their place and renamed when whole, checked when read.

Three names tell an artifact's state: ``X.zarr`` (whole), ``X.zarr.<pid>.tmp`` (being written; left
behind by a crash, removed by the next writer) and nothing. The key is written last of all, then the
manifest (``storage.manifests``); all is on the disk before the renaming. Reading compares every
file it reads with the manifest.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from begat.errors import BegatError
from begat.storage.digests import file_digest
from begat.storage.manifests import MANIFEST, manifest_of, seal, sync, sync_one
from begat.storage.schema import STRING, VERSION, checked, chunks_of, schema_of

Block = Mapping[str, np.ndarray]
ALIGNMENT = 64  # bytes, the longest vector of any CPU


def stored_attributes(path: Path) -> dict[str, Any] | None:
    """The attributes of an artifact, or None where there is none; needs no Zarr library."""
    try:
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return attributes if isinstance(attributes, dict) else None


def remove(path: Path) -> None:
    """Remove a file or directory, if it is there; never half in its own place."""
    if not os.path.lexists(path):
        return
    trash = path.with_name(f"{path.name}.{os.getpid()}.old.tmp")
    shutil.rmtree(trash, ignore_errors=True)
    path.rename(trash)
    if trash.is_dir() and not trash.is_symlink():
        shutil.rmtree(trash)
    else:
        trash.unlink()


def publish(path: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` make a directory beside ``path``, then put it there in one rename.

    Raises:
        BegatError: the disk refused; nothing has changed then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{path.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        scratch.mkdir()
        fill(scratch)
        sync(scratch)
        remove(path)
        scratch.rename(path)
        sync_one(path.parent)
    except OSError as error:
        raise BegatError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write(
    path: Path,
    stage: str,
    attributes: Mapping[str, Any],
    blocks: Iterable[Block],
    files: Mapping[str, str] | None = None,
    sealed: Callable[[str], None] = lambda content: None,
) -> None:
    """Write an artifact; every block's arrays are appended along their first axis.

    ``attributes`` and ``files`` (texts to lay beside the arrays) are read when the last block has
    been written, so they may be filled in while the blocks are made. ``sealed`` is called with the
    content digest before the artifact is put in its place.

    Raises:
        BegatError: what the schema does not allow, or a disk that is full; nothing has changed.
    """

    def fill(scratch: Path) -> None:
        _fill(scratch, path, stage, attributes, blocks)
        for name, text in (files or {}).items():
            (scratch / name).write_text(text)
        sealed(seal(scratch))

    publish(path, fill)


def _fill(
    scratch: Path, path: Path, stage: str, attributes: Mapping[str, Any], blocks: Iterable[Block]
) -> None:
    import zarr
    from zarr.codecs import ZstdCodec

    group = zarr.create_group(scratch, zarr_format=3, overwrite=True)
    schemas, arrays = schema_of(stage), dict[str, zarr.Array]()
    for block in blocks:
        for name, raw in block.items():
            values = checked(stage, str(path), name, raw)
            if name in arrays:
                arrays[name].append(values)
                continue
            schema = schemas[name]
            arrays[name] = group.create_array(
                name,
                shape=values.shape,
                chunks=chunks_of(schema, values.shape),
                dtype=schema.dtype,
                fill_value={"f": np.nan, "T": ""}.get(values.dtype.kind, 0),
                dimension_names=schema.axes,
                chunk_key_encoding={"name": "default", "separator": "."},
                compressors=ZstdCodec(level=1, checksum=True),
                config={"write_empty_chunks": True},  # so that a missing chunk is a fault
                attributes={"unit": schema.unit},
            )
            arrays[name][...] = values
    missing = [n for n, a in schemas.items() if not a.optional and n not in arrays]
    if missing:
        raise BegatError(f"{path}: expected arrays {', '.join(missing)}, found none of them")
    group.attrs.update({"schema": VERSION, "stage": stage, **attributes})


class Artifact:
    """A whole artifact, read by schema name.

    ``artifact["pixels"]`` is the array in memory; ``attributes`` says what it was made from.
    """

    def __init__(self, path: Path, stage: str) -> None:
        """Open it.

        Raises:
            BegatError: nothing there, damaged, or written under another schema.
        """
        self.path, self.stage = path, stage
        if not path.is_dir():
            raise BegatError(
                f"{path}: expected an artifact of {stage}, found none; run `begat run`"
            )
        files = manifest_of(path)
        if files is None:
            raise self._damaged(MANIFEST)
        self._files, self._compared = files, set[str]()
        self._compare(["zarr.json"])
        attributes = stored_attributes(path)
        if attributes is None:
            raise self._damaged("zarr.json")
        if attributes.get("schema") != VERSION:
            raise BegatError(
                f"{path}: expected schema version {VERSION}, found {attributes.get('schema')}; "
                "run `begat run` to make it anew"
            )
        self.attributes = attributes

    def __contains__(self, name: str) -> bool:
        """Whether an optional array was written."""
        return f"{name}/zarr.json" in self._files

    def __getitem__(self, name: str) -> np.ndarray:
        """The whole array ``name``.

        Raises:
            BegatError: not there, of another type than the schema's, or damaged.
        """
        return self.rows(name, slice(None))

    def rows(self, name: str, which: slice | np.ndarray) -> np.ndarray:
        """Some rows of the array ``name``: as ``artifact[name][which]``, reading only those."""
        import zarr

        schema = schema_of(self.stage).get(name)
        if schema is None or name not in self:
            raise BegatError(f"{self.path}: expected an array {name}, found none")
        self._compare([f"{name}/zarr.json"])
        array = zarr.open_array(self.path / name, mode="r")
        stored = (array.dtype, array.metadata.to_dict().get("dimension_names"))
        if stored != (schema.in_memory, schema.axes):
            raise BegatError(
                f"{self.path}: {name}: expected {schema.dtype} over {schema.axes}, found "
                f"{stored[0]} over {stored[1]}"
            )
        self._compare(self._chunks(name, np.arange(array.shape[0])[which] // array.chunks[0]))
        try:
            values = np.asarray(
                array.oindex[which] if isinstance(which, np.ndarray) else array[which]
            )
            values = checked(self.stage, str(self.path), name, values)
            return values if values.dtype == STRING else aligned(values)
        except BegatError:
            raise
        except Exception as error:  # codecs raise what they like on damaged bytes
            raise self._damaged(name, error) from error

    def _chunks(self, name: str, along_first: np.ndarray) -> list[str]:
        """The files of an array's chunks, by their numbers along its first axis."""
        indices = {str(n) for n in np.unique(along_first)}
        first = f"{name}/c."
        chunks = (f for f in self._files if f.startswith(first))
        return [f for f in chunks if f.removeprefix(first).partition(".")[0] in indices]

    def _compare(self, names: Sequence[str]) -> None:
        """Raise BegatError where a file is not what was written."""
        for name in names:
            if name not in self._compared:
                file = self.path / name
                if not file.is_file():
                    raise self._damaged(name, "missing")
                if file_digest(file) != self._files[name]:
                    raise self._damaged(name)
                self._compared.add(name)

    def _damaged(self, name: str, why: Exception | str = "not what was written") -> BegatError:
        return BegatError(
            f"{self.path}: {name}: damaged ({' '.join(str(why).split())}); run `begat verify`, "
            "which repairs it or has it made anew"
        )


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of ``ALIGNMENT`` bytes, as torch's own tensors do.

    NumPy's arrays begin where they happen to, and some matrix libraries round differently there:
    a tensor on such memory would make two equal runs differ in the last bit.
    """
    memory = np.empty(values.nbytes + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    aligned = memory[first : first + values.nbytes].view(values.dtype).reshape(values.shape)
    aligned[...] = values
    return aligned


def string_array(texts: Sequence[str]) -> np.ndarray:
    """Texts as an array of strings of any length; ``tolist`` is the inverse."""
    return np.array(texts, STRING)


def digest_bytes(digests: Sequence[str]) -> np.ndarray:
    """Hexadecimal sha256 as rows of 32 bytes."""
    return np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32)
