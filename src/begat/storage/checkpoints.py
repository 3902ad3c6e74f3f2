"""A training's state on disk, so that a killed job goes on where it was."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from begat.errors import BegatError
from begat.storage.artifacts import Artifact, remove, stored_attributes, write
from begat.storage.cache import Read
from begat.storage.digests import digest
from begat.storage.schema import schema_of

State = dict[str, np.ndarray]
Snapshot = tuple[int, Callable[[], State]]


def _folder(root: Path) -> Path:
    return root / ".begat" / "checkpoints"


def trained_together(root: Path) -> Iterator[list[str]]:
    """The keys of each set of models that was in training when its job was killed."""
    for path in sorted(_folder(root).glob("*.zarr")):
        keys = (stored_attributes(path) or {}).get("keys")
        if isinstance(keys, list):
            yield keys


class Checkpoint:
    """The state of one set of models in training; found again by their keys.

    Args:
        root: of the project.
        keys: of the models.
        seconds: between two states that are saved.
        read: the content digests of what the training reads; a state from other bits is no use.
    """

    def __init__(self, root: Path, keys: list[str], seconds: float, read: Read) -> None:
        self.path = _folder(root) / f"{digest(keys)}.zarr"
        self.keys, self.seconds, self.read = keys, seconds, read

    def load(self) -> tuple[int, Mapping[str, np.ndarray]] | None:
        """The steps done and the state saved last; None where there is none that is of use."""
        try:
            saved = Artifact(self.path, "checkpoint")
            if saved.attributes["read"] != self.read:
                return None
            state = {n: saved[n] for n in schema_of("checkpoint") if n in saved}
        except BegatError:
            return None
        return saved.attributes["step"], state

    def save(self, step: int, state: State) -> None:
        """Save one state."""
        attributes = {"step": step, "keys": self.keys, "read": self.read}
        write(self.path, "checkpoint", attributes, [state])

    def saving(self, states: Iterable[Snapshot]) -> Iterator[Snapshot]:
        """The states, passed on; one is saved whenever ``seconds`` have gone by."""
        saved = time.monotonic()
        for step, state in states:
            if time.monotonic() - saved >= self.seconds:
                self.save(step, state())
                saved = time.monotonic()
            yield step, state

    def remove(self) -> None:
        """Forget it; the training is complete."""
        remove(self.path)
