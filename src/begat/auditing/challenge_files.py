"""Files of challenges, ``results/challenges/<of>-<seed>.json``: scores, subsets, losses, verdicts.

A file is written twice: before anything is drawn, so that a challenge that is stopped counts, and
with the outcome. It ends with its ``digest``, the sha256 of the rest.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from begat.auditing.fresh_models import Request
from begat.errors import BegatError
from begat.storage.digests import digest
from begat.storage.manifests import put_text

RESULTS = Path("results") / "challenges"


def begin(root: Path, request: Request, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write down, before anything is drawn, what a challenge is about; return these notes.

    Args:
        root: of the project.
        request: the challenge.
        facts: the digests of scores and claims, and the sizes of the run.

    Raises:
        BegatError: the seed was used for other scores.
    """
    previous = _earlier(root / RESULTS / f"{request.name}.json")
    if previous and previous["commitment"] != request.commitment:
        raise BegatError(
            f"{RESULTS / request.name}.json: expected a challenge of the present scores, found one "
            "of others; use another seed"
        )
    notes = {
        "seed": request.seed,
        "of": request.of,
        "subsets": request.subsets,
        "commitment": request.commitment,
        **facts,
        "earlier": _others(root, request),
        "earlier_sizes": _earlier_sizes(previous, request.subsets),
    }
    if previous and previous["subsets"] == request.subsets:  # the same again, maybe after others
        notes["earlier"] = previous["earlier"]
    write_outcome(root, request.name, {**(previous or {}), **notes})
    return notes


def _others(root: Path, request: Request) -> list[str]:
    """Returns the names of all other challenges of such units."""
    names = (path.stem for path in (root / RESULTS).glob(f"{request.of}-*.json"))
    return sorted(name for name in names if name != request.name)


def _earlier_sizes(previous: dict[str, Any] | None, subsets: int) -> list[int]:
    """Returns the other numbers of subsets that this seed has been used with."""
    sizes = [*previous["earlier_sizes"], previous["subsets"]] if previous else []
    return sorted({size for size in sizes if size != subsets})


def _earlier(path: Path) -> dict[str, Any] | None:
    """Returns an earlier outcome; None where there is none.

    Raises:
        BegatError: a damaged file.
    """
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_bytes())
        rest = {name: value for name, value in fields.items() if name != "digest"}
        if fields["digest"] == digest(rest):
            return rest
    except (ValueError, KeyError, AttributeError):
        pass
    raise BegatError(f"{path}: damaged; use another seed")


def write_outcome(root: Path, name: str, fields: Mapping[str, Any]) -> None:
    """Write the file of a challenge, with a digest of the rest."""
    text = json.dumps({**fields, "digest": digest(fields)}, indent=1)
    put_text(root / RESULTS / f"{name}.json", text + "\n")
