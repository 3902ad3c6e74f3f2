"""Lost parts, other bits and full disks: a wrong outcome of each is noticed."""

import random
import subprocess

import numpy as np
import pytest
from faults import disk, mixtures
from faults.__main__ import CAMPAIGNS
from plans import copied, planned
from scenes import TRACEBACK, Fake

from begat.execution.contents import PARTS, Contents
from begat.execution.context import JobContext
from begat.planning.tidy import damaged, unrecorded
from begat.storage.artifacts import Artifact, write
from begat.storage.manifests import damage

DICE = random.Random(0)


@pytest.fixture
def scene(tmp_path):
    return Fake(tmp_path)


def test_the_short_campaign_has_lost_parts_and_other_bits(scene, monkeypatch):
    kinds = dict.fromkeys(mixtures.MIXTURES, lambda scene, dice: ("what", ""))
    monkeypatch.setattr(mixtures, "MIXTURES", kinds)
    done = list(mixtures.removals(scene, DICE, CAMPAIGNS["mixtures"][2]))
    assert {t.campaign.split(":")[0] for t in done} == {"lost", "other bits"}
    assert {t.campaign for t in mixtures.removals(scene, DICE, 4)} == {*kinds}


def test_a_loss_that_no_run_makes_good_is_noticed(scene):
    def loss(root, dice):
        return [root / "results" / "splits" / "all.zarr"]

    what, wrong = mixtures._lost(loss, scene, DICE)
    assert what == "all.zarr of 1"
    assert "made from another splits/all" in wrong


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """A plan with one pack of models in its place and on record."""
    plan = planned(copied(tmp_path))
    job = plan.jobs("models")[0]
    monkeypatch.setattr(Contents, "read_by", lambda self, job: {})
    names = [model.name for model in job.models]
    arrays = dict.fromkeys(("weights", "ema_weights"), np.ones((len(names), 3), np.float32))
    said = {"models": names, "snapshots_of": [], PARTS: dict.fromkeys(names, "x")}
    JobContext(plan, job).materialise(lambda context: [arrays], **said)
    return plan, job


@pytest.mark.parametrize("recorded", [True, False])
def test_other_bits_of_one_model_are_whole_and_new(pack, monkeypatch, recorded):
    plan, job = pack
    monkeypatch.setattr(mixtures, "Plan", lambda root: plan)
    name, path = job.models[-1].name, plan.root / job.path
    planted = mixtures.other_bits(plan.root, name, recorded)
    found = Artifact(path, "models")
    weights = found["weights"]
    assert (weights[:-1] == 1).all()
    assert (weights[-1] != 1).all()
    assert damage(path) == []
    assert found.attributes["key"] == job.key
    assert [n for n, value in found.attributes[PARTS].items() if value != "x"] == [name]
    assert found.attributes[PARTS][name] == planted
    assert unrecorded(plan) == []
    assert bool(damaged(plan)) != recorded


def scored(root, value):
    attributes = {"stage": "scores_pixel", "name": "all", "read": {"models/a": str(value)}}
    block = {"score": np.full((1, 2, 2), value, np.float64)}
    write(root / "results" / "scores" / "pixel.zarr", "scores_pixel", attributes, [block])


def test_numbers_of_former_bits_under_a_new_label_are_noticed(tmp_path):
    scored(tmp_path / "before", 1)
    scored(tmp_path / "after", 1)
    (wrong,) = mixtures.unmoved(tmp_path / "before", tmp_path / "after", "a")
    assert wrong == "results/scores/pixel.zarr: the numbers of the former bits of a"
    assert not list(mixtures.unmoved(tmp_path / "before", tmp_path / "after", "b"))
    scored(tmp_path / "after", 2)
    assert not list(mixtures.unmoved(tmp_path / "before", tmp_path / "after", "a"))


class Models:
    """A plan of one model, and what its pack holds now."""

    def __init__(self, monkeypatch, now="planted"):
        model = type("Model", (), {"name": "a", "pack": "p"})
        plan = type("Plan", (), {"spec": type("Spec", (), {"models": [model]})})
        monkeypatch.setattr(mixtures, "Plan", lambda root: plan)
        monkeypatch.setattr(mixtures, "other_bits", lambda root, name, recorded: "planted")
        contents = type("Contents", (), {"part": lambda self, stage, pack, name: now})
        monkeypatch.setattr(mixtures, "Contents", lambda root: contents())


@pytest.mark.parametrize("now", ["planted", "former"])
def test_other_bits_that_are_taken_away_again_are_noticed(scene, monkeypatch, now):
    Models(monkeypatch, now)
    wrong = mixtures._retrained(scene, DICE)[1]
    assert wrong == ("" if now == "planted" else "a has not the bits that were put in place")


def test_what_stays_of_the_former_bits_is_noticed(scene, monkeypatch):
    Models(monkeypatch)
    monkeypatch.setattr(mixtures, "unmoved", lambda *roots: iter(["stays"]))
    assert mixtures._retrained(scene, DICE) == ("a", "stays")
    scene.effects["begat"] = (1, "no")
    assert "begat verify returned 1" in mixtures._retrained(scene, DICE)[1]


def test_other_bits_that_verify_does_not_name_or_a_run_does_not_undo_are_noticed(
    scene, monkeypatch
):
    Models(monkeypatch)
    assert "did not name it" in mixtures._unrecorded(scene, DICE)[1]
    verified = iter([(1, "p: another content digest than its record"), (0, "")] * 2)
    scene.effects["begat"] = lambda root: next(verified)
    assert mixtures._unrecorded(scene, DICE)[1] == ""
    (scene.project / "results" / "metrics.json").write_text("2")
    assert "1 files differ" in mixtures._unrecorded(scene, DICE)[1]


@pytest.mark.parametrize("code", [*disk.ENDS, 7])
def test_a_full_disk_that_ends_badly_is_noticed(scene, monkeypatch, code):
    done = subprocess.CompletedProcess([], code)
    monkeypatch.setattr(disk.subprocess, "run", lambda *words, **more: done)
    monkeypatch.setattr(disk, "allowed", lambda: True)
    monkeypatch.setattr(Fake, "restore", lambda self, computed: None)
    (trial,) = disk.full_disks(scene, DICE, 1)
    assert str(disk.ENDS.get(code, code)) in trial.wrong


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [("left", "", ""), ("left", "results/a.tmp\n", "results/a.tmp was left")]
    + [(name, TRACEBACK, "a traceback") for name in ("full", "room")],
)
def test_what_a_full_disk_leaves_behind_is_noticed(scene, monkeypatch, name, text, wrong):
    def run(command, env, check):
        kept = scene.folder / "kept"
        for part in ("full", "room", "left"):
            (kept / part).write_text(text if part == name else "")
        mixtures.Path(env["PRISTINE"]).rename(kept / "project")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(disk.subprocess, "run", run)
    monkeypatch.setattr(Fake, "restore", lambda self, computed: None)
    found = disk._full(scene, 5.0)
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)
