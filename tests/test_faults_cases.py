"""Single faults that go wrong are noticed: two runs at once, signals, files that are none."""

import random
import subprocess
import sys

import pytest
from faults import cases
from scenes import TRACEBACK, Fake

DICE = random.Random(0)
REFUSED = "begat: another run\n"


@pytest.fixture
def scene(tmp_path):
    return Fake(tmp_path)


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (REFUSED, ""),
        (f"Using workflow specific profile x\n{REFUSED}", ""),
        ("error\n", "expected one line, found 1"),
        (REFUSED * 2, "expected one line, found 2"),
        (TRACEBACK, "a traceback"),
    ],
)
def test_a_refusal_takes_one_line(said, wrong):
    assert cases.one_line(said).startswith(wrong)
    assert bool(cases.one_line(said)) == bool(wrong)


@pytest.mark.parametrize(
    ("effect", "wrong"),
    [
        ((1, REFUSED), ""),
        ((0, REFUSED), "begat returned 0"),
        ((1, TRACEBACK), "a traceback"),
        (lambda root: (root / "results" / "x").write_text("2") and (1, REFUSED), "1 files differ"),
    ],
)
def test_a_refusal_fails_and_changes_nothing(scene, effect, wrong):
    scene.effects["begat"] = effect
    found = cases.refused(scene, ("begat", "status"))
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


FIRST = "import pathlib, time; p = pathlib.Path('.begat'); p.mkdir(exist_ok=True); "
FIRST += "(p / 'lock').write_text('1'); time.sleep(0.3); "
MADE = "import shutil; shutil.copytree('../finished/results', 'results'); "
REPEATED = "(pathlib.Path('results') / 'x').write_text('2')"


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        (MADE, (1, REFUSED), ""),
        (MADE, (0, ""), "the second run was let in"),
        (MADE, (1, TRACEBACK), "a traceback"),
        (MADE + "raise SystemExit('no')", (1, REFUSED), "the first run returned 1: no"),
        (MADE + f"print({TRACEBACK!r})", (1, REFUSED), "a traceback"),
        (MADE + REPEATED, (1, REFUSED), "1 files differ"),
        ("", (1, REFUSED), "files differ"),
    ],
)
def test_of_two_runs_at_once_the_first_must_end_well(scene, monkeypatch, first, second, wrong):
    def started(folder, said):
        return subprocess.Popen(
            [sys.executable, "-c", FIRST + first], cwd=folder, stdout=said, stderr=said
        )

    monkeypatch.setattr(cases, "started", started)
    scene.effects["snakemake"] = second
    found = cases.two_runs(scene, DICE)
    assert bool(found) == bool(wrong)
    assert wrong in found


def test_a_single_fault_that_goes_wrong_fails_its_trial(scene, monkeypatch):
    monkeypatch.setattr(cases, "CASES", {"a": lambda s, d: "bad", "b": lambda s, d: ""})
    assert [t.wrong for t in cases.cases(scene, DICE, 9)] == ["bad", ""]


@pytest.fixture
def use(scene):
    path = scene.finished / cases.USE
    path.parent.mkdir()
    path.write_text("  resamples: 20\n" + "x" * 1000)
    scene.restore()
    return path


@pytest.mark.parametrize(
    ("effect", "wrong"),
    [
        ((1, REFUSED), ""),
        ((0, ""), "empty: snakemake returned 0"),
        ((1, "x\ny"), "empty: expected"),
    ],
)
def test_a_damaged_parameter_file_must_be_refused(scene, use, effect, wrong):
    sound = use.read_bytes()

    def call(root):
        return (0, "") if (root / cases.USE).read_bytes() == sound else effect

    scene.effects = {"snakemake": call, "begat": call}
    found = cases.parameters(scene, DICE)
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


@pytest.mark.parametrize(
    ("program", "effect", "wrong"),
    [
        ("import time; time.sleep(60)", None, ""),
        (f"print({TRACEBACK!r}, flush=True)", None, "SIGINT: a traceback"),
        ("pass", (1, "no"), "snakemake returned 1: no"),
        ("pass", (0, ""), "files differ"),
    ],
)
def test_what_a_stopped_run_prints_or_leaves_is_noticed(scene, monkeypatch, program, effect, wrong):
    def started(folder, said, **more):
        command = [sys.executable, "-c", program]
        run = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.DEVNULL, **more)
        monkeypatch.setattr(run, "wait", lambda seconds: type(run).wait(run, min(seconds, 5)))
        return run

    monkeypatch.setattr(cases, "started", started)
    dice = type("Dice", (), {"uniform": lambda self, low, high: 0.3})()
    if effect:
        scene.effects["snakemake"] = effect
    found = cases.signals(scene, dice)
    assert wrong in found
    assert bool(found) == bool(wrong)


@pytest.mark.parametrize(
    ("effect", "wrong"),
    [
        ((1, REFUSED), ""),
        ((1, TRACEBACK), "snakemake --cores 2: a traceback"),
        ((1, "a\nb"), "snakemake --cores 2: expected one line"),
        (lambda root: (root / "results" / "x").write_text("2") and (1, REFUSED), "1 files differ"),
    ],
)
def test_what_read_only_results_lead_to_is_noticed(scene, use, effect, wrong):
    scene.effects[cases.NAMESPACE[0]] = effect
    found = cases.read_only(scene, DICE)
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)
