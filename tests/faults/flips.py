"""Damaged bytes must be named by ``begat verify`` or do no harm, and heal without a person."""

import random
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from pathlib import Path

from typer.testing import CliRunner

from begat.cli import commands
from begat.errors import BegatError
from begat.storage.artifacts import Artifact
from faults.scene import Scene, Trial, artifacts, file_digests

RUNS = 50  # one damage of so many is met by real runs

KINDS = {  # every kind of file, by how it is found below the root
    "chunk": "results/*/*.zarr/**/c.*",
    "array": "results/*/*.zarr/?*/**/zarr.json",
    "attributes": "results/*/*.zarr/zarr.json",
    "manifest": "results/*/*.zarr/manifest.json",
    "record": "results/records/*.json",
    "copy": ".begat/records/*.json",
    "stored": ".begat/store/*/**/*",
    "digests": ".begat/digests.json",
    "page": "results/report/*",
    "metrics": "results/metrics/all.zarr/metrics.json",
}


def _flip(found: bytes, dice: random.Random) -> bytes:
    place, bit = dice.randrange(len(found)), 1 << dice.randrange(8)
    return found[:place] + bytes([found[place] ^ bit]) + found[place + 1 :]


def _zero(found: bytes, dice: random.Random) -> bytes:
    first, last = sorted(dice.randrange(len(found) + 1) for _ in range(2))
    return found[:first] + bytes(last - first) + found[last:]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "flip": _flip,
    "zero": _zero,
    "cut": lambda found, dice: found[: dice.randrange(len(found))],
    "empty": lambda found, dice: b"",
    "delete": lambda found, dice: None,
    "replace": lambda found, dice: dice.randbytes(len(found)),
    "not an object": lambda found, dice: b"[1]",
}


def damage(path: Path, how: str, dice: random.Random, linked: bool) -> bool:
    """Damage a file, its hard links too if ``linked``; whether its bytes are others now."""
    before = path.read_bytes()
    after = DAMAGES[how](before, dice) if before else None
    if after is None or not linked:
        path.unlink()
    if after is not None:
        path.write_bytes(after)
    return before != after


def swap(one: Path, other: Path) -> None:
    """Let two artifacts change places."""
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def verified(root: Path) -> tuple[bool, str, str]:
    """Whether ``begat verify``, run in this process, ends well; its output; its traceback."""
    with chdir(root):
        done = CliRunner().invoke(commands, ["verify"], env={"COLUMNS": "500"})
    error = done.exception
    if error is None or isinstance(error, BegatError | SystemExit):
        return error is None, f"{done.output}{error}", ""
    return False, done.output, "".join(traceback.format_exception(error))[-500:]


def read(artifact: Path) -> str:
    """Read all arrays of an artifact; the traceback where that is neither done nor refused."""
    place = artifact.parent.name
    arrays = {path.parent.relative_to(artifact).as_posix() for path in artifact.rglob("c.*")}
    stage = f"scores_{artifact.stem}" if place == "scores" else place
    try:
        whole = Artifact(artifact, stage)
        for name in sorted(arrays):
            whole[name]
    except BegatError:
        pass
    except Exception:
        return traceback.format_exc()[-500:]
    return ""


def owner(name: Path) -> Path:
    """The artifact (or the file by itself) that a file below ``results`` is part of."""
    return Path(*name.parts[: 2 if name.parts[1] == "report" else 3])


def mistreat(scene: Scene, dice: random.Random, turn: int) -> tuple[str, str]:
    """Damage a file drawn at random: its kind, and what was done to which.

    Kinds of files and of damage go by turns, so that a short campaign has them all.
    """
    kinds, hows = [*KINDS, "swap"], [*DAMAGES]
    kind = kinds[turn % len(kinds)]
    how = hows[(turn + turn // len(kinds)) % len(hows)]
    if kind == "swap":
        one, other = dice.sample(artifacts(scene.project), 2)
        swap(one, other)
        return kind, f"{one.name} and {other.name}"
    files = sorted(p for p in scene.project.glob(KINDS[kind]) if p.is_file() and p.stat().st_size)
    while files:
        path, linked = dice.choice(files), dice.random() < 0.5
        if damage(path, how, dice, linked):
            where = path.relative_to(scene.project)
            return kind, f"{how}: {where}{' and its links' * linked}"
    raise LookupError(f"no file is of the kind {kind}: {KINDS[kind]}")


def harm(root: Path, sound: Mapping[str, str]) -> str:
    """What is wrong with how damage below ``root`` is met.

    Reading ends in values or in a refusal. ``begat verify`` names what is not as the ``sound``
    digests say (of two artifacts that changed places, one), and fails if that is not put right.
    """
    damaged = _damaged(root, sound)
    for part in damaged:
        if part.suffix == ".zarr" and (broken := read(root / part)):
            return f"reading {part}: {broken}"
    well, said, broken = verified(root)
    if broken:
        return f"begat verify: {broken}"
    if damaged and not any(str(part) in said for part in damaged):
        return f"{damaged[0]} is damaged, and begat verify does not name it"
    if well and (damaged := _damaged(root, sound)):
        return f"{damaged[0]} is damaged, and begat verify ends well"
    return ""


def _damaged(root: Path, sound: Mapping[str, str]) -> list[Path]:
    """Artifacts and records that are not sound."""
    found = file_digests(root, "results")
    names = [name for name in {*sound, *found} if sound.get(name) != found.get(name)]
    return sorted({owner(Path(name)) for name in names})


def flips(scene: Scene, dice: random.Random, count: int) -> Iterator[Trial]:
    """Damages met in this process, and for some of them by a real run."""
    sound = file_digests(scene.finished, "results")
    for i in range(count):
        scene.restore()
        kind, what = mistreat(scene, dice, i)
        if i % RUNS < RUNS - 1:
            yield Trial(f"damage: {kind}", what, harm(scene.project, sound))
        else:
            yield Trial("damage, then runs", f"{kind}, {what}", scene.healed())
