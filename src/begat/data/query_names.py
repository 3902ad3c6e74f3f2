"""Names, groups, classes and files by which queries are shown."""

from collections.abc import Iterable, Sequence

import numpy as np

from begat.data.datasets import Dataset
from begat.storage.artifacts import Block, digest_bytes, string_array


def names_of_supplied(queries: Dataset, label: Iterable[int], classes: Sequence[str]) -> Block:
    """Returns the names, groups, files and classes of user-supplied queries."""
    return {
        "name": string_array(queries.names),
        "group": string_array(["; ".join(groups) for groups in queries.group_names]),
        "condition": _conditions(label, classes),
        "file_sha256": digest_bytes(queries.digests),
    }


def names_of_generated(
    queries: Sequence[int], label: Iterable[int], classes: Sequence[str]
) -> Block:
    """Returns numbered names, and the classes that the queries were generated for."""
    return {
        "name": string_array([f"generated-{query:04d}" for query in queries]),
        "group": string_array([""] * len(queries)),
        "condition": _conditions(label, classes),
        "file_sha256": np.zeros((len(queries), 32), np.uint8),
    }


def _conditions(label: Iterable[int], classes: Sequence[str]) -> np.ndarray:
    """Returns the class names of labels, of which -1 is none."""
    return string_array(["" if number < 0 else classes[number] for number in label])
