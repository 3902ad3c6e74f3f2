"""Whatever is missing is made again, and what was made from other bits with it: no mixtures."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import cycle
from pathlib import Path

from begat.execution.contents import PARTS, Contents, part_digest
from begat.execution.records import record
from begat.planning.plan import Plan
from begat.storage.artifacts import Artifact, remove, stored_attributes, write
from begat.storage.schema import schema_of
from faults.scene import Scene, Trial, artifacts, mixtures, ugly


def parts(root: Path) -> dict[str, list[Path]]:
    """All that may be lost, by kind; the store's single models are a kind of their own."""
    models = {root / ".begat" / "store" / key for key in Plan(root).model_keys.values()}
    entries = sorted((root / ".begat" / "store").iterdir())
    return {
        "models": sorted(models),
        "store": [entry for entry in entries if entry not in models],
        "results": artifacts(root),
        "records": sorted((root / "results" / "records").glob("*.json")),
    }


def lone(root: Path, dice: random.Random) -> list[Path]:
    """The parts of one model: its entry in the store, and its pack there and in the results."""
    plan = Plan(root)
    model = dice.choice([m for m in plan.spec.models if m.kind != "full"])
    job = plan.job("models", model.pack)
    store = root / ".begat" / "store"
    return [store / plan.model_keys[model.name], store / job.key, root / job.path]


def lost(root: Path, dice: random.Random) -> list[Path]:
    """A random part of each kind: none, few or most of it."""
    found = []
    for paths in parts(root).values():
        share = dice.choice((0, 0.1, 0.5, 0.9))
        found += [path for path in paths if dice.random() < share]
    return found


def other_bits(root: Path, name: str, recorded: bool) -> str:
    """Put a pack in place in which one model has other bits, as if trained elsewhere.

    Its manifest, digests and (if ``recorded``) its record are in order. Returns the digest that
    the model has now.
    """
    plan = Plan(root)
    job = plan.job("models", next(m.pack for m in plan.spec.models if m.name == name))
    pack = Artifact(root / job.path, "models")
    arrays = {array: pack[array].copy() for array in schema_of("models") if array in pack}
    rows = {}
    for array, values in arrays.items():
        models = pack.attributes["snapshots_of" if array == "snapshots" else "models"]
        if name in models:
            rows[array] = values[models.index(name)]
            rows[array] *= 1.5
    said = {n: value for n, value in pack.attributes.items() if n not in ("schema", "stage")}
    said[PARTS] = {**said[PARTS], name: part_digest(rows)}

    def sealed(content: str) -> None:
        record(root, job, time.time(), 0.0, "cpu", [name], content)

    write(root / job.path, "models", said, [arrays], **({"sealed": sealed} if recorded else {}))
    return said[PARTS][name]


def unmoved(before: Path, after: Path, model: str) -> Iterator[str]:
    """What holds the very numbers that were computed from a model's former bits."""
    for path in artifacts(before):
        name = path.relative_to(before)
        if f"models/{model}" in (stored_attributes(path) or {}).get("read", {}):
            old, new = ({*chunks(root / name)} for root in (before, after))
            if old and old == new:  # a page has no arrays
                yield f"{name}: the numbers of the former bits of {model}"


def chunks(artifact: Path) -> Iterator[tuple[str, bytes]]:
    """The bytes of all arrays of an artifact."""
    for path in artifact.rglob("c.*"):
        yield path.relative_to(artifact).as_posix(), path.read_bytes()


def _drawn(scene: Scene, dice: random.Random) -> str:
    return dice.choice(Plan(scene.project).spec.models).name


def _lost(
    losses: Callable[[Path, random.Random], list[Path]], scene: Scene, dice: random.Random
) -> tuple[str, str]:
    gone = losses(scene.project, dice)
    for path in gone:
        with suppress(FileNotFoundError):
            remove(path)
    names = ", ".join(path.name[:20] for path in gone[:3])
    return f"{names} of {len(gone)}", scene.run() or scene.inconsistent()


def _retrained(scene: Scene, dice: random.Random) -> tuple[str, str]:
    """A model of other bits, as from another machine: it stays, and all behind it is made anew."""
    name = _drawn(scene, dice)
    planted = other_bits(scene.project, name, recorded=True)
    if wrong := scene.run() or scene.inconsistent():
        return name, wrong
    plan = Plan(scene.project)
    pack = next(m.pack for m in plan.spec.models if m.name == name)
    if Contents(scene.project).part("models", pack, name) != planted:
        return name, f"{name} has not the bits that were put in place"
    return name, next(unmoved(scene.finished, scene.project, name), "")


def _unrecorded(scene: Scene, dice: random.Random) -> tuple[str, str]:
    """A model of other bits whose record is of the former ones: named, and made good again."""
    name = _drawn(scene, dice)
    other_bits(scene.project, name, recorded=False)
    wrong = scene.run() or next(mixtures(scene.project), "")
    code, said = scene.call("begat", "verify")
    if not wrong and "another content digest than its record" not in said:
        wrong = f"begat verify returned {code} and did not name it: {said[-500:]}"
    return name, wrong or ugly(said) or scene.run() or scene.wrong()


Mixture = Callable[[Scene, random.Random], tuple[str, str]]  # what was done, and what went wrong
MIXTURES: dict[str, Mixture] = {
    "lost: one model": partial(_lost, lone),
    "other bits: recorded": _retrained,
    "lost: any parts": partial(_lost, lost),
    "other bits: unrecorded": _unrecorded,
}


def removals(scene: Scene, dice: random.Random, count: int) -> Iterator[Trial]:
    """Parts are lost or of other bits, then a run; the kinds take turns."""
    for _, (kind, mixture) in zip(range(count), cycle(MIXTURES.items()), strict=False):
        scene.restore()
        what, wrong = mixture(scene, dice)
        yield Trial(kind, what, wrong)
