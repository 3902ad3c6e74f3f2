"""Every kind of kill hits whom it should, and what is wrong afterwards is noticed."""

import os
import random
import subprocess
import sys
import time
from collections import Counter

import pytest
from faults import kills
from faults.__main__ import CAMPAIGNS
from scenes import TRACEBACK, Fake

ENGINE = """
import pathlib, subprocess, sys, time
job = pathlib.Path("workflow/scripts/job.py")
job.parent.mkdir(parents=True, exist_ok=True)
job.write_text("import time; time.sleep(1); open('results/x.txt', 'w'); time.sleep(60)")
sys.exit(1 if subprocess.run([sys.executable, str(job)]).returncode else 0)
"""
LAST = CAMPAIGNS["kills"][2]


@pytest.fixture
def scene(tmp_path):
    return Fake(tmp_path)


@pytest.fixture
def engine(monkeypatch, scene):
    """Lets a program be started in place of Snakemake."""

    def use(text=ENGINE):
        program = scene.folder / "engine.py"
        program.write_text(text)

        def started(folder, said, **more):
            command = [sys.executable, program]
            return subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, **more)

        monkeypatch.setattr(kills, "started", started)
        monkeypatch.setattr(kills, "CHANCE", 1.0)
        return scene

    return use


def at_work(process):
    """Whether a process still runs; one that is dead may wait for a parent to notice."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("kind", [kind for kind, kill in kills.KILLS.items() if kill])
def test_a_kill_from_outside_hits_whom_it_should(engine, monkeypatch, kind):
    scene, killer, seen = engine(), kills.KILLS[kind], {}

    def spied(run, dice):
        while not (jobs := kills._jobs(run.pid)):
            time.sleep(0.01)
        hit = killer(run, dice)
        seen["status"] = run.wait(20)
        time.sleep(0.1)
        seen["jobs"] = [at_work(job) for job in jobs]
        if any(seen["jobs"]):
            os.killpg(run.pid, 9)
        return hit

    monkeypatch.setitem(kills.KILLS, kind, spied)
    _, killed, wrong = kills._killed(scene, random.Random(0), kind)
    assert (killed, wrong) == (True, "")
    assert seen == {
        "status": 1 if kind == "one job" else -9,
        "jobs": [kind == "Snakemake alone"],
    }


def test_a_kill_at_a_write_takes_the_whole_run_before_the_write(engine):
    scene = engine()
    _, killed, wrong = kills._killed(scene, random.Random(0), "at a write")
    assert (killed, wrong) == (True, "")
    assert not (scene.project / "results" / "x.txt").exists()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('no')", "snakemake returned 1: no"),
        (f"print({TRACEBACK!r})", "a traceback"),
        (f"open('logs/a.log', 'w').write({TRACEBACK!r})", "logs/a.log: a traceback"),
        ("import time; time.sleep(60)", "snakemake still at work after"),
    ],
)
def test_a_run_that_goes_wrong_unkilled_is_noticed(engine, monkeypatch, program, said):
    monkeypatch.setattr(kills, "LONGEST", 0.5)
    monkeypatch.setitem(kills.KILLS, "whole run", lambda run, dice: False)
    _, killed, wrong = kills._killed(engine(program), random.Random(0), "whole run")
    assert not killed
    assert said in wrong


@pytest.fixture
def starts(monkeypatch, scene):
    """Lets starts end in a given way; notes of which kind each was to be."""
    kinds = []

    def use(*ends):
        waiting = list(ends)

        def killed(scene, dice, kind):
            kinds.append(kind)
            return (1, *(waiting.pop(0) if waiting else (True, "")))

        monkeypatch.setattr(kills, "_killed", killed)
        monkeypatch.setattr(kills, "_gone", lambda group: None)
        return kinds

    return use


def test_the_short_campaign_has_every_kind_of_kill(scene, starts):
    kinds = starts()
    done = list(kills.kills(scene, random.Random(0), LAST))
    assert {*kinds} == {*kills.KILLS}
    assert Counter(t.campaign for t in done) == Counter(f"kill -9: {kind}" for kind in kinds)
    assert len(done) == LAST
    assert not any(trial.wrong for trial in done)


def test_a_kind_that_came_too_late_is_tried_again(scene, starts):
    kinds = starts((True, ""), (False, ""))
    list(kills.kills(scene, random.Random(0), 4))
    assert kinds == ["whole run", "Snakemake alone", "Snakemake alone", "one job", "at a write"]


def test_a_campaign_that_kills_nobody_fails(scene, starts):
    starts(*[(False, "")] * 100)
    (trial,) = kills.kills(scene, random.Random(0), 4)
    assert trial.wrong == "no kill came in time"


def test_what_goes_wrong_at_a_start_is_the_outcome_of_all_kills_before_it(scene, starts):
    starts((True, ""), (False, "bad"))
    done = list(kills.kills(scene, random.Random(0), 1 + 1))
    assert [t.wrong for t in done][:1] == ["bad"]
    starts((False, "bad"))
    first = next(kills.kills(scene, random.Random(0), 1))
    assert (first.campaign, first.wrong) == ("kill -9: none", "bad")


def test_results_that_differ_after_kills_are_noticed(scene, starts):
    starts()
    scene.effects.clear()  # nothing is made again
    done = list(kills.kills(scene, random.Random(0), 4))
    assert all("files differ" in trial.wrong for trial in done)
    assert len(done) == 4
