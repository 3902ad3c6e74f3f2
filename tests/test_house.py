"""The house keeps its own laws: who imports whom, how large things are, what is never used."""

import ast
import re
import subprocess
import sys

import pytest
from small import ROOT

SOURCES = sorted((ROOT / "src").rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))


def said_by(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_rooms_are_entered_by_their_doors_only():
    code, said = said_by(f"{sys.prefix}/bin/lint-imports")
    assert code == 0, said


def test_the_code_is_in_order():
    places = ("src", "workflow/scripts", "tests", "benchmarks")
    for task in (("check",), ("format", "--check")):
        code, said = said_by(sys.executable, "-m", "ruff", *task, *places)
        assert code == 0, said


def test_types_hold():
    code, said = said_by(sys.executable, "-m", "mypy")
    assert code == 0, said


def test_rules_are_in_order():
    code, said = said_by(f"{sys.prefix}/bin/snakefmt", "--check", "Snakefile", "workflow")
    assert code == 0, said


def test_snakemake_finds_nothing_to_mend_but_the_conda_environments_we_do_not_use():
    _, said = said_by(sys.executable, "-m", "snakemake", "--lint")
    found = set(re.findall(r"^    \* (.*)$", said, re.MULTILINE))
    assert found <= {"Specify a conda environment or container for each rule.:"}, said


def test_nothing_is_pickled_and_no_global_generator_is_used():
    banned = r"\bpickle\b|torch\.load|torch\.save|manual_seed\((?!seed_of)|np\.random\.(seed|rand)"
    for path in [*SOURCES, *SCRIPTS]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not re.search(banned, line), f"{path}:{number}: {line}"


def test_comparisons_within_a_tolerance_are_run_under_other_kernels_too():
    def says(node, *words):
        return any(word in ast.unparse(node) for word in words)

    for path in sorted((ROOT / "tests").glob("test_*.py")):
        body = ast.parse(path.read_text()).body
        if any(says(node, "pytestmark = pytest.mark.numerics") for node in body):
            continue
        for test in (node for node in body if isinstance(node, ast.FunctionDef)):
            if says(test, "assert_close(", "assert_allclose("):
                marked = any(says(mark, "mark.numerics") for mark in test.decorator_list)
                assert marked, f"{path.name}: {test.name}: expected the marker numerics"


def test_the_table_of_contents_stays_one():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 50


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_scripts_are_thin(script):
    assert len(script.read_text().splitlines()) <= 65


def test_every_stage_has_its_script_rule_and_dvc_stage():
    from begat.stages import STAGES

    rules = "".join(p.read_text() for p in (ROOT / "workflow" / "rules").glob("*.smk"))
    dvc = (ROOT / "dvc.yaml").read_text()
    for stage in STAGES:
        assert (ROOT / "workflow" / "scripts" / f"{stage}.py").is_file()
        assert (ROOT / "src" / "begat" / "stages" / f"{stage}.py").is_file()
        assert f"rule {stage}:" in rules
        assert f"\n  {stage}:\n" in dvc


def test_no_file_names_a_machine_or_an_index():
    tracked = said_by("git", "ls-files")[1].split()
    for name in tracked:
        if name.endswith((".py", ".md", ".toml", ".yaml", ".smk", ".txt", "Makefile", "run")):
            text = (ROOT / name).read_text()
            assert not re.search(r"/work/|/root/|/opt/pypi|pypi\.org|/tmp/studio", text) or (
                name == "tests/test_house.py"
            ), name
