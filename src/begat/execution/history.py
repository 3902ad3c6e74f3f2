"""What happened to a project's results, in order: an append-only log, chained by digests.

Each line is a JSON object with the ``digest`` of itself and, as ``previous``, that of the line
before it. So no line can be changed, removed or moved without a trace, but for the last ones: the
digest of the last line has to be noted somewhere else to prove that none is missing. There are two
copies: one travels with the records, one stays on this machine.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from begat.execution.jobs import Job
from begat.storage.cache import locked
from begat.storage.digests import digest
from begat.storage.manifests import put_text

HISTORY = Path("results") / "records" / "history.jsonl"  # travels with the records
COPY = Path(".begat") / "history.jsonl"
LOCK = Path(".begat") / "locks" / "history"
Line = dict[str, Any]


@dataclass(frozen=True)
class History:
    """The lines of both copies.

    Attributes:
        lines: those of a whole chain, as long as any copy has.
        faults: of either copy, by its path: which line is not what was written.
        shorter: of a copy that is whole but lacks the last lines: after which it ends. A checkout
            of earlier records does this too.
    """

    lines: list[Line]
    faults: dict[Path, str]
    shorter: dict[Path, str]

    def first(self, event: str, **fields: Any) -> int | None:
        """Returns the number of the first line of an event with these fields; None for none."""
        for number, line in enumerate(self.lines):
            if line["event"] == event and all(line.get(k) == v for k, v in fields.items()):
                return number
        return None

    def last(self, event: str) -> Line | None:
        """Returns the last line of an event; None where there is none."""
        return next((line for line in reversed(self.lines) if line["event"] == event), None)

    def contents(self) -> set[tuple[str, str]]:
        """Returns key and content digest of every result that was made here or came here."""
        return {(line["key"], line["content"]) for line in self.lines if "content" in line}


def history(root: Path) -> History:
    """Returns the log of a project; empty where nothing has been run."""
    chains = {path: _chain(root / path) for path in (HISTORY, COPY)}
    lines = max((lines for lines, _ in chains.values()), key=len)
    faults = {path: fault for path, (_, fault) in chains.items() if fault}
    whole = {path: chain for path, (chain, fault) in chains.items() if not fault}
    if not (root / COPY).exists():  # results that came from elsewhere, before a run here
        del whole[COPY]
    faults |= {p: "not the history of its copy" for p, c in whole.items() if c != lines[: len(c)]}
    ends = {p: f"ends after {len(c)} of {len(lines)} lines" for p, c in whole.items()}
    shorter = {p: end for p, end in ends.items() if p not in faults and len(whole[p]) < len(lines)}
    return History(lines, faults, shorter)


def append(root: Path, *events: Mapping[str, Any]) -> None:
    """Add lines to the log; each event is a mapping that has its name as ``event``.

    Copies that differ are made equal first: the longer one is taken, and what only the other one
    has is added as one line.

    Raises:
        BegatError: the disk refused.
    """
    if not events:
        return
    with locked(root / LOCK):
        lines = _whole(root)
        for event in events:
            lines.append(_sealed(lines, event))
        _write(root, lines)


def result(event: str, job: Job, content: str) -> Line:
    """Returns the event that a job's result was made here, or came here from elsewhere."""
    return {
        "event": event,
        "stage": job.stage,
        "name": job.name,
        "key": job.key,
        "content": content,
    }


def write_again(root: Path) -> bool:
    """Make both copies of the log equal and whole; returns whether anything was changed."""
    log = history(root)
    if not log.faults and not log.shorter:
        return False
    with locked(root / LOCK):
        _write(root, _whole(root))
    return True


def _sealed(lines: Sequence[Line], event: Mapping[str, Any]) -> Line:
    """Returns the line that an event becomes behind others."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    previous = lines[-1]["digest"] if lines else ""
    fields = {"line": len(lines), "time": at, "previous": previous, **event}
    return {**fields, "digest": digest(fields)}


def _chain(path: Path) -> tuple[list[Line], str]:
    """Returns the lines of a file as far as they follow one another, and what is wrong then."""
    lines: list[Line] = []
    try:
        texts = path.read_bytes().decode().split("\n")
    except FileNotFoundError:
        return [], ""
    except (OSError, ValueError):
        return [], "unreadable"
    for number, text in enumerate(texts[:-1]):
        line = _parsed(text, number, lines[-1]["digest"] if lines else "")
        if line is None:
            return (
                lines,
                f"line {number} is not what was written, or does not follow line {number - 1}",
            )
        lines.append(line)
    return lines, "" if texts[-1] == "" else f"line {len(texts) - 1} is cut"


def _parsed(text: str, number: int, previous: str) -> Line | None:
    """Returns a line that is what was written and follows the one with a digest, else None."""
    try:
        line = json.loads(text)
        rest = {name: value for name, value in line.items() if name != "digest"}
        follows = rest["line"] == number and rest["previous"] == previous and "event" in rest
        return line if follows and text == _text(line) and line["digest"] == digest(rest) else None
    except (ValueError, KeyError, AttributeError, RecursionError):
        return None


def _text(line: Line) -> str:
    return json.dumps(line, sort_keys=True)


def _whole(root: Path) -> list[Line]:
    """Returns one chain with the lines of both copies."""
    longer, other = sorted((_chain(root / path)[0] for path in (HISTORY, COPY)), key=len)[::-1]
    same = next((n for n, line in enumerate(other) if line != longer[n]), len(other))
    if lost := other[same:]:
        longer.append(_sealed(longer, {"event": "merged", "lines": lost}))
    return longer


def _write(root: Path, lines: Sequence[Line]) -> None:
    text = "".join(f"{_text(line)}\n" for line in lines)
    for path in (COPY, HISTORY):
        put_text(root / path, text)
