"""A training's state on disk, so that a killed job goes on where it was."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from begat.io.artifacts import Artifact, remove, stored_attributes, write
from begat.io.keys import digest
from begat.io.schema import schema_of

Snapshot = tuple[int, Callable[[], dict[str, np.ndarray]]]


class Checkpoint:
    """The state of one set of models in training; found again by their keys."""

    def __init__(self, root: Path, keys: list[str], seconds: float) -> None:
        self.path = root / ".begat" / "checkpoints" / f"{digest(keys)}.zarr"
        self.seconds = seconds

    def load(self) -> tuple[int, Mapping[str, np.ndarray]] | None:
        """The steps done and the state saved last, or None where there is none."""
        attributes = stored_attributes(self.path)
        if attributes is None:
            return None
        saved = Artifact(self.path, "checkpoint")
        return attributes["step"], {n: saved[n] for n in schema_of("checkpoint") if n in saved}

    def saving(self, states: Iterable[Snapshot]) -> Iterator[Snapshot]:
        """The states, passed on; one is saved whenever ``seconds`` have gone by."""
        saved = time.monotonic()
        for step, state in states:
            if time.monotonic() - saved >= self.seconds:
                write(self.path, "checkpoint", {"step": step}, [state()])
                saved = time.monotonic()
            yield step, state

    def remove(self) -> None:
        """Forget it; the training is complete."""
        remove(self.path)
