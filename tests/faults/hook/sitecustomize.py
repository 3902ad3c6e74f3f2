"""Kills a job and the run it belongs to at one of the job's writes, drawn at random.

Python imports this module when it starts with this folder on ``PYTHONPATH``. ``BEGAT_KILL`` is
``seed chance``: how the writes are drawn, and the share of writes that kill.
"""

import os
import random
import signal
import sys

WRITES = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
PLACES = ("results", ".begat")


def _watch(seed: str, chance: float) -> None:
    dice = random.Random(f"{seed} {sys.orig_argv[2:4]}")

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in WRITES or (event == "open" and str(arguments[1])[:1] in "wxa"):
            place = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else ""
            if any(name in place for name in PLACES) and dice.random() < chance:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(hook)


if "BEGAT_KILL" in os.environ and any("workflow/scripts" in word for word in sys.orig_argv):
    _seed, _chance = os.environ["BEGAT_KILL"].split()
    _watch(_seed, float(_chance))
