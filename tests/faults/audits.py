"""Faults of every kind, each of which ``begat audit`` must name; nothing it reads may change."""

import json
import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

from typer.testing import CliRunner

from begat.cli import commands
from begat.errors import BegatError
from begat.execution.history import HISTORY
from begat.storage.digests import digest
from begat.storage.manifests import MANIFEST, seal
from faults.flips import DAMAGES, KINDS, damage, owner, swap
from faults.scene import Scene, Trial, artifacts, file_digests

Fault = Callable[[Path, random.Random], list[str]]  # plants it; texts of which one must be named


def _files(root: Path, pattern: str) -> list[Path]:
    return sorted(p for p in root.glob(pattern) if p.is_file() and p.stat().st_size)


def _damaged(pattern: str, but: str = "") -> Fault:
    """Damage one file."""

    def plant(root: Path, dice: random.Random) -> list[str]:
        hows = [how for how in DAMAGES if how != but]
        while True:
            path = dice.choice(_files(root, pattern))
            if damage(path, dice.choice(hows), dice, linked=dice.random() < 0.5):
                return _names(root, path)

    return plant


def _names(root: Path, path: Path) -> list[str]:
    """What names a file: its path, that of its artifact, or the name of an image."""
    name = path.relative_to(root)
    whole = {"results": owner, "data": lambda name: name.relative_to("data/images")}
    return [str(name), *(str(whole[p](name)) for p in name.parts[:1] if p in whole)]


def _exchanged(pattern: str) -> Fault:
    """Let two files or artifacts change places."""

    def plant(root: Path, dice: random.Random) -> list[str]:
        one, other = dice.sample(sorted(root.glob(pattern)), 2)
        swap(one, other)
        return [str(path.relative_to(root)) for path in (one, other)]

    return plant


def _removed(pattern: str) -> Fault:
    def plant(root: Path, dice: random.Random) -> list[str]:
        path = dice.choice(_files(root, pattern))
        path.unlink()
        return _names(root, path)

    return plant


def _attribute_edited(root: Path, dice: random.Random) -> list[str]:
    """Change an attribute and write a manifest that agrees with it."""
    path = dice.choice(artifacts(root))
    _edit(path, dice)
    return [str(path.relative_to(root))]


def _edit(path: Path, dice: random.Random) -> str:
    place, manifest = path / "zarr.json", path / MANIFEST
    whole = json.loads(place.read_bytes())
    name = dice.choice(sorted(whole["attributes"]))
    whole["attributes"][name] = dice.randrange(1000)
    for file in (place, manifest):
        file.unlink()  # hard links keep what was written
    place.write_text(json.dumps(whole))
    return seal(path)


def _attribute_and_record_edited(root: Path, dice: random.Random) -> list[str]:
    """The same, with a record (and its copy) that agrees as well."""
    path = dice.choice(artifacts(root))
    key = json.loads((path / "zarr.json").read_bytes())["attributes"]["key"]
    content = _edit(path, dice)
    for folder in ("results/records", ".begat/records"):
        record = root / folder / f"{key}.json"
        fields = json.loads(record.read_bytes())
        fields.pop("digest")
        fields["content"] = content
        record.write_text(json.dumps({**fields, "digest": digest(fields)}, indent=1) + "\n")
    return [str(path.relative_to(root)), key]


def _history(change: Callable[[list[str], random.Random], None]) -> Fault:
    """Change the lines of the history that travels with the records."""

    def plant(root: Path, dice: random.Random) -> list[str]:
        lines = (root / HISTORY).read_text().splitlines()
        change(lines, dice)
        (root / HISTORY).write_text("".join(f"{line}\n" for line in lines))
        return [str(HISTORY)]

    return plant


def _reorder(lines: list[str], dice: random.Random) -> None:
    one, other = dice.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]


def _added_image(root: Path, dice: random.Random) -> list[str]:
    source = dice.choice(_files(root, "data/images/*/*.png"))
    target = source.with_name(f"added-{dice.randrange(100)}.png")
    target.write_bytes(source.read_bytes())
    return [target.name]


FAULTS: dict[str, Fault] = {
    **{kind: _damaged(pattern) for kind, pattern in KINDS.items() if kind != "digests"},
    "copy": _damaged(KINDS["copy"], but="delete"),  # a clone has none
    "history": _damaged(str(HISTORY)),
    "copy of the history": _damaged(".begat/history.jsonl", but="delete"),
    "image": _damaged("data/images/*/*.png"),
    "parameters": _damaged("params.yaml"),
    "source": _damaged("src/begat/**/*.py"),
    "rule": _damaged("workflow/**/*.smk"),
    "artifacts exchanged": _exchanged("results/[!r]*/*.zarr"),
    "store exchanged": _exchanged(".begat/store/*"),
    "records exchanged": _exchanged("results/records/*.json"),
    "images exchanged": _exchanged("data/images/*/*.png"),
    "record removed": _removed("results/records/*.json"),
    "chunk removed": _removed("results/*/*.zarr/**/c.*"),
    "image removed": _removed("data/images/*/*.png"),
    "image added": _added_image,
    "attribute edited": _attribute_edited,
    "attribute and record edited": _attribute_and_record_edited,
    "history reordered": _history(_reorder),
    "history without a line": _history(lambda lines, dice: lines.pop(dice.randrange(len(lines)))),  # type: ignore[arg-type,return-value]
    "history cut": _history(lambda lines, dice: lines.pop()),  # type: ignore[arg-type,return-value]
}


def audited(root: Path) -> tuple[int, str, str]:
    """Exit status and output of ``begat audit``, run in this process, and its traceback."""
    with chdir(root):
        done = CliRunner().invoke(commands, ["audit"], env={"COLUMNS": "1000"})
    error = done.exception
    if error is None or isinstance(error, BegatError | SystemExit):
        return done.exit_code, f"{done.output}{error}", ""
    return 1, done.output, "".join(traceback.format_exception(error))[-500:]


def missed(root: Path, names: list[str], before: dict[str, str]) -> str:
    """What is wrong with how an audit meets a fault; nothing where it names it."""
    code, said, broken = audited(root)
    if broken:
        return f"begat audit: {broken}"
    if not any(name in said for name in names):
        return f"begat audit does not name {names[0]}: {said[-300:]}"
    if code == 0 and "without effect" not in said:
        return f"begat audit ends well in spite of {names[0]}"
    return "" if everything(root) == before else "begat audit changed a file"


def everything(root: Path) -> dict[str, str]:
    """The digests of all files of a project that count."""
    places = ("results", "data", "src", "workflow", ".begat/store", ".begat/records")
    return {name: value for p in places for name, value in file_digests(root, p).items()}


def audits(scene: Scene, dice: random.Random, count: int) -> Iterator[Trial]:
    """Faults by turns of their kind; the sound project comes first."""
    scene.restore()
    code, said, broken = audited(scene.project)
    yield Trial("audit: sound", "no fault", broken or (said[-500:] if code else ""))
    kinds = [*FAULTS]
    for i in range(count):
        scene.restore()
        kind = kinds[i % len(kinds)]
        names = FAULTS[kind](scene.project, dice)
        before = everything(scene.project)
        yield Trial(f"audit: {kind}", names[0], missed(scene.project, names, before))
