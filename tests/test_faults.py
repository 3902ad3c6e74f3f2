"""The campaigns of faults notice what they are there to notice: each is given a wrong outcome."""

import json
import shutil

import numpy as np
import pytest
from faults import __main__ as program
from faults.scene import SMALLER, Trial, ugly
from scenes import TRACEBACK, Fake

from begat.config.schema import fields_of, sections
from begat.stages import PARAMS
from begat.storage.artifacts import write


@pytest.fixture
def scene(tmp_path):
    return Fake(tmp_path)


def other_digest(root):
    (root / "results" / "metrics.json").write_text("2")


def lost_result(root):
    shutil.rmtree(root / "results" / "scores")


def other_result(root):
    chunk = next((root / "results" / "scores").rglob("c.*"))
    chunk.write_bytes(b"x" + chunk.read_bytes())


def mixture(root):
    splits = root / "results" / "splits" / "all.zarr"
    attributes = {"stage": "splits", "name": "all", "read": {}}
    write(splits, "splits", attributes, [{"trains_on": ~np.eye(2, dtype=bool)}])


def left(place):
    return lambda root: (root / place / "a.1.tmp").mkdir(parents=True)


def unreadable(root):
    (root / "results" / "splits" / "all.zarr" / "manifest.json").unlink()


def traceback(root):
    (root / "logs" / "a.log").write_text(TRACEBACK)


INCONSISTENT = {
    "was left behind": left("results/splits"),
    ".begat/locks/a.1.tmp was left behind": left(".begat/locks"),
    "made from another splits/all": mixture,
    "not what its manifest says": other_result,
    "unreadable": unreadable,
    "logs/a.log: a traceback": traceback,
}
WRONG = {"files differ": other_digest, "files differ,": lost_result, "differ": other_result}
PROGRAMS = {
    "begat verify returned 1": ("begat", (1, "no")),
    "a traceback": ("begat", (0, TRACEBACK)),
    "snakemake returned 1": ("snakemake", (1, "no")),
    "a traceback: ": ("snakemake", (0, TRACEBACK)),
}


def test_a_scene_in_which_all_is_well_has_nothing_wrong(scene):
    assert scene.run() + scene.wrong() + scene.inconsistent() + scene.healed() == ""


@pytest.mark.parametrize("said", INCONSISTENT)
def test_what_is_inconsistent_is_noticed_after_every_fault(scene, said):
    INCONSISTENT[said](scene.project)
    assert said in scene.inconsistent()
    assert scene.wrong()
    assert said in scene.healed()


@pytest.mark.parametrize("said", WRONG)
def test_results_that_differ_from_an_undisturbed_run_are_noticed(scene, said):
    WRONG[said](scene.project)
    assert said in scene.wrong()


@pytest.mark.parametrize("said", PROGRAMS)
def test_programs_that_fail_or_print_a_traceback_are_noticed(scene, said):
    scene.effects = dict([PROGRAMS[said]])
    assert said in (scene.run() or scene.wrong())
    assert said in scene.healed()


def test_the_parameters_of_the_smaller_run_exist():
    assert not [(s, key) for s, key, _ in SMALLER if key not in fields_of(sections(PARAMS)[s])]


def test_a_traceback_is_told_from_a_message():
    assert ugly("begat: no such file") == ""


def test_the_summary_counts_and_the_first_failures_are_kept(tmp_path, capsys):
    (tmp_path / "project").mkdir()
    made = [Trial("a", "1"), *(Trial("a", str(i), "bad") for i in range(7)), Trial("b", "2")]
    done = list(program.told(tmp_path, made))
    assert done == made
    assert program.summary(done) == {
        "a": {"tried": 8, "passed": 1, "failed": 7},
        "b": {"tried": 1, "passed": 1, "failed": 0},
    }
    assert capsys.readouterr().err.count(": bad\n") == 7
    assert len(list(tmp_path.glob("failed-*"))) == program.KEPT
    assert program.table(program.summary(done)).row_count == 2


@pytest.mark.parametrize("wrong", ["", "bad"])
def test_the_exit_status_and_the_file_say_whether_anything_failed(tmp_path, monkeypatch, wrong):
    counts = []

    def campaign(scene, dice, count):
        counts.append(count)
        yield Trial("kind", "what", wrong)

    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setattr(program, "CAMPAIGNS", {"one": (campaign, 9, 2), "two": (campaign, 9, 0)})
    monkeypatch.setattr(program, "Scene", lambda folder: None)
    monkeypatch.setattr(program.tempfile, "mkdtemp", lambda prefix: str(folder))
    monkeypatch.setattr("sys.argv", ["faults", "--short", "one", "--json", f"{tmp_path}/out"])
    assert program.main() == (1 if wrong else 0)
    assert counts == [2]
    assert folder.exists() == bool(wrong), "what failed is left to be looked at"
    found = json.loads((tmp_path / "out").read_text())
    bad = int(bool(wrong))
    assert found["campaigns"] == {"kind": {"tried": 1, "passed": 1 - bad, "failed": bad}}
    assert [trial["wrong"] for trial in found["failed"]] == [wrong] * bool(wrong)
    monkeypatch.setattr("sys.argv", ["faults", "two"])
    monkeypatch.setattr(program, "trials", lambda *arguments: iter(()))
    folder.mkdir(exist_ok=True)
    assert program.main() == 1, "a campaign without a trial has shown nothing"


def test_a_campaign_that_is_asked_for_by_a_wrong_name_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["faults", "kils"])
    with pytest.raises(SystemExit):
        program.main()
    assert "kils" in capsys.readouterr().err
