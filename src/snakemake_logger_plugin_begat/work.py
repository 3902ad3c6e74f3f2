"""The work that a run still has, as planning notes it for every artifact that is not current.

``.begat/markers/stale`` maps artifacts to seconds of computing, or to network evaluations where no
earlier run says how long one takes; to 0 where the store has the artifact.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STALE = Path(".begat/markers/stale")


def work_ahead() -> dict[str, float]:
    """The work in every artifact that is not current; none in what the store has."""
    return _stale().get("work", {})


def _stale() -> dict[str, Any]:
    try:
        estimates = json.loads(STALE.read_text())
    except (OSError, ValueError):
        return {}
    return estimates if isinstance(estimates, dict) else {}


def forecast(outputs: Sequence[str]) -> str:
    """What a dry run says of the artifacts listed: how many are computed, and how long it takes."""
    work, in_seconds = work_ahead(), _stale().get("unit") == "s"
    stored = sum(work.get(output) == 0 for output in outputs)
    lines = [f"{stored} of these results will be taken from the store."] if stored else []
    if computed := [work[output] for output in outputs if work.get(output)]:
        hours = sum(computed) / 3600
        time = f"{hours:.1f} h" if hours >= 1 else f"{max(hours * 60, 1):.0f} min"
        of = (
            f": about {time} of computing"
            if in_seconds
            else "; `begat plan` says how long it takes"
        )
        lines.append(f"{len(computed)} of these results will be computed{of}.")
    return "\n".join(lines)
