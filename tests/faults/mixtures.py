"""Whatever is missing is made again, and what was made from other bits with it: no mixtures."""

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from begat.planning.plan import Plan
from begat.storage.artifacts import remove
from faults.scene import Scene, Trial, artifacts


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
    model = dice.choice([m for m in plan.models if m.kind != "full"])
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


def removals(scene: Scene, dice: random.Random, count: int) -> Iterator[Trial]:
    """Parts are lost, then a run; every second time those of one model, whose pack is there."""
    for i in range(count):
        scene.restore()
        gone = (lost if i % 2 else lone)(scene.project, dice)
        for path in gone:
            with suppress(FileNotFoundError):
                remove(path)
        names = ", ".join(path.name[:20] for path in gone[:3])
        wrong = scene.run() or scene.inconsistent()
        yield Trial(
            f"lost: {'any parts' if i % 2 else 'one model'}", f"{names} of {len(gone)}", wrong
        )
