"""The architecture: imports between packages, sizes, formatting, types, and what is never used."""

import ast
import importlib
import re
import subprocess
import sys

import pytest
import yaml
from small import ROOT

from begat.stages import METHODS, STAGES

SOURCES = sorted((ROOT / "src").rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))
STAGE_MODULES = [ROOT / "src" / "begat" / "stages" / f"{stage}.py" for stage in STAGES]


def output_of(*command):
    """Exit status and all output of a program."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def names_in(tree):
    """The names that a file binds: variables, arguments, functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


@pytest.fixture(scope="module")
def rules():
    """The names of all rules, as Snakemake reads them."""
    code, output = output_of(sys.executable, "-m", "snakemake", "--list-rules", "--quiet", "all")
    assert code == 0, output
    return [line for line in output.splitlines() if line.isidentifier()]


def test_packages_import_one_another_in_one_direction():
    code, output = output_of(f"{sys.prefix}/bin/lint-imports")
    assert code == 0, output


def test_the_code_is_formatted_and_without_lint():
    places = ("src", "workflow/scripts", "tests", "benchmarks")
    for task in (("check",), ("format", "--check")):
        code, output = output_of(sys.executable, "-m", "ruff", *task, *places)
        assert code == 0, output


def test_names_say_what_they_hold():
    filler = [
        "found",
        "asked",
        "some",
        "kept",
        "what",
        "how",
        "few",
        "known",
        "said",
        "given",
        "wanted",
    ]
    assert not [
        f"{path.relative_to(ROOT)}: {name}"
        for path in [*SOURCES, *SCRIPTS]
        for name in names_in(ast.parse(path.read_text()))
        if name.strip("_") in filler
    ]


def test_the_types_are_right():
    code, output = output_of(sys.executable, "-m", "mypy")
    assert code == 0, output


def test_the_rules_are_formatted():
    code, output = output_of(
        f"{sys.prefix}/bin/snakefmt", "--check", "Snakefile", "workflow/Snakefile", "workflow/rules"
    )
    assert code == 0, output


def test_snakemake_lints_nothing_but_the_conda_environments_that_we_do_not_use():
    _, output = output_of(sys.executable, "-m", "snakemake", "--lint")
    problems = set(re.findall(r"^    \* (.*)$", output, re.MULTILINE))
    assert problems <= {"Specify a conda environment or container for each rule.:"}, output


def test_nothing_is_pickled_and_no_global_generator_is_used():
    banned = r"\bpickle\b|torch\.load|torch\.save|manual_seed\((?!seed_of)|np\.random\.(seed|rand)"
    for path in [*SOURCES, *SCRIPTS]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not re.search(banned, line), f"{path}:{number}: {line}"


def test_comparisons_within_a_tolerance_are_run_under_other_kernels_too():
    def contains(node, *words):
        return any(word in ast.unparse(node) for word in words)

    for path in sorted((ROOT / "tests").glob("test_*.py")):
        body = ast.parse(path.read_text()).body
        if any(contains(node, "pytestmark = pytest.mark.numerics") for node in body):
            continue
        for test in (node for node in body if isinstance(node, ast.FunctionDef)):
            if contains(test, "assert_close(", "assert_allclose("):
                marked = any(contains(mark, "mark.numerics") for mark in test.decorator_list)
                assert marked, f"{path.name}: {test.name}: expected the marker numerics"


def test_the_snakefile_is_a_short_table_of_contents():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 50


def test_the_only_script_hands_over_to_the_package():
    assert [script.name for script in SCRIPTS] == ["stage.py"]
    assert len(SCRIPTS[0].read_text().splitlines()) <= 10


@pytest.mark.parametrize("module", STAGE_MODULES, ids=lambda path: path.stem)
def test_a_stage_is_short_and_imports_its_mathematics_in_functions(module):
    text = module.read_text()
    assert len(text.splitlines()) <= 210
    imported = [
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.parse(text).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    families = ("diffusion", "ensembles", "influence", "reporting")
    heavy = re.compile(rf"(numpy|torch|scipy|tqdm|begat\.({'|'.join(families)}))\b")
    heavy_names = [name for name in imported if heavy.match(name)]
    without_torch = {"begat.diffusion.bounds", "begat.diffusion.schedulers"}
    assert not set(heavy_names) - without_torch


def test_every_stage_has_a_module_that_declares_it_a_rule_and_a_dvc_stage(rules):
    modules = {path.stem for path in (ROOT / "src" / "begat" / "stages").glob("*.py")}
    assert modules - {"__init__", "declaration"} == set(STAGES)
    assert list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) == list(STAGES)
    for name, stage in STAGES.items():
        module = importlib.import_module(f"begat.stages.{name}")
        assert module.STAGE is stage
        assert stage.run is module.run
        assert stage.jobs is module.jobs
        assert ("scores" if name.startswith("scores_") else name) in rules
        assert not stage.each or f"{name}_{stage.each}" in rules


def test_every_rule_belongs_to_a_stage_but_for_the_target_and_the_check(rules):
    each = {f"{name}_{stage.each}" for name, stage in STAGES.items() if stage.each}
    others = {name for name in STAGES if not name.startswith("scores_")}
    assert set(rules) == {"all", "verify", "scores", *each, *others}
    assert len(rules) == len(set(rules))


def test_the_cluster_profile_names_exactly_the_rules_that_compute_with_models(rules):
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    on_gpu = [stage for stage in STAGES.values() if stage.gpu]
    scores = {"scores" for stage in on_gpu if stage.name.startswith("scores_")}
    each = {f"{stage.name}_{stage.each}" for stage in on_gpu if stage.each}
    assert set(profile["set-resources"]) == scores | each
    assert set(profile["set-resources"]) <= set(rules)


def test_only_scoring_stages_declare_methods_and_every_method_has_one_owner():
    for name, stage in STAGES.items():
        assert bool(stage.methods) == name.startswith("scores_"), name
        assert all(method.of in ("images", "groups", "both") for method in stage.methods.values())
    assert len(METHODS) == sum(len(stage.methods) for stage in STAGES.values())


def test_stages_come_after_what_they_read():
    for position, (name, stage) in enumerate(STAGES.items()):
        assert set(stage.inputs_among(STAGES)) <= set(list(STAGES)[:position]), name


def test_no_file_names_a_machine_or_an_index():
    tracked = output_of("git", "ls-files")[1].split()
    for name in tracked:
        if name.endswith((".py", ".md", ".toml", ".yaml", ".smk", ".txt", "Makefile", "run")):
            text = (ROOT / name).read_text()
            assert not re.search(r"/work/|/root/|/opt/pypi|pypi\.org|/tmp/studio", text) or (
                name == "tests/test_architecture.py"
            ), name
