"""A scene of faults without engines: a few artifacts, and programs that do as a test says."""

import shutil

import numpy as np
from faults.scene import Scene, digests

from begat.storage.artifacts import write
from begat.storage.manifests import content_digest

TRACEBACK = "x\nTraceback (most recent call last):\n  y\nValueError: z\n"


class Fake(Scene):
    """``effects``: for each program its exit status and output, or what it does to the project."""

    def __init__(self, folder):
        self.folder, self.finished, self.project = folder, folder / "finished", folder / "project"
        self.seconds, self.effects, self.calls = 0.4, {"snakemake": self.remade}, []
        splits = self.finished / "results" / "splits" / "all.zarr"
        attributes = {"stage": "splits", "name": "all", "read": {}}
        write(splits, "splits", attributes, [{"trains_on": np.eye(2, dtype=bool)}])
        read = {"splits/all": content_digest(splits)}
        scores = {"stage": "scores_pixel", "name": "all", "read": read}
        path = self.finished / "results" / "scores" / "pixel.zarr"
        write(path, "scores_pixel", scores, [{"score": np.ones((1, 2, 2))}])
        for name in ("logs/a.log", "results/records/k.json", ".begat/records/k.json"):
            (self.finished / name).parent.mkdir(parents=True, exist_ok=True)
            (self.finished / name).write_text('{"a": 1}')
        self.expected = digests(self.finished)
        self.restore()

    def remade(self, root):
        if not (root / "results").exists():
            shutil.copytree(self.finished / "results", root / "results")

    def call(self, *command):
        self.calls.append(command[0])
        effect = self.effects.get(command[0], (0, ""))
        return effect if isinstance(effect, tuple) else effect(self.project) or (0, "")
