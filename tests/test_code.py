"""The code in a key: which files, and which changes of them matter."""

import ast
import re

import grimp
import pytest
from plans import DOWN, changed_stages, copied, keys
from small import ROOT

from begat.errors import BegatError
from begat.planning import code
from begat.planning.code import NEUTRAL, Code
from begat.stages import STAGES

FILES = sorted(set().union(*(Code(ROOT).digests(stage) for stage in STAGES)))
MODULES = grimp.build_graph("begat").modules


@pytest.fixture
def root(tmp_path):
    return copied(tmp_path)


def path_of(module):
    """The file of a module, as keys name it."""
    place = ROOT / "src" / module.replace(".", "/")
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return file.relative_to(ROOT).as_posix()


def imported_by(script):
    """The modules of this package that a script imports."""
    nodes = list(ast.walk(ast.parse(script.read_text())))
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    for node in (n for n in nodes if isinstance(n, ast.ImportFrom)):
        full = {f"{node.module}.{alias.name}" for alias in node.names}
        names |= {name if name in MODULES else node.module for name in full}
    return names & MODULES


def expected_modules(stage):
    """What the script reaches by imports, by another library's graph of them."""
    graph = grimp.build_graph("begat")
    for module in NEUTRAL:
        graph.remove_module(module)
    reached = imported_by(ROOT / "workflow" / "scripts" / f"{stage}.py") - NEUTRAL
    for module in list(reached):
        reached |= graph.find_upstream_modules(module)
    packages = {module.rpartition(".")[0] for module in reached | NEUTRAL}
    return reached | packages | {"begat"}


def expected_files(stage):
    files = {path_of(module) for module in expected_modules(stage)}
    names = ("page.html", "page.css", "cards.html", "charts.html") if stage == "report" else ()
    templates = {f"src/begat/reporting/{name}" for name in names}
    return files | templates | {f"workflow/scripts/{stage}.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_of_a_stage_is_all_that_its_script_imports(stage):
    assert set(Code(ROOT).digests(stage)) == expected_files(stage)


def otherwise(text):
    """A source with its first whole number changed, or with one more constant."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            lines = text.splitlines(keepends=True)
            line, start, end = lines[node.lineno - 1], node.col_offset, node.end_col_offset
            if line[start:end].isdigit():
                lines[node.lineno - 1] = line[:start] + b"7" + line[start:]
                return b"".join(lines)
    return text + b"CHANGED = 1\n"


def test_another_constant_in_any_file_changes_exactly_the_code_of_the_stages_that_run_it(root):
    runs = {stage: expected_files(stage) for stage in STAGES}
    before = {stage: Code(root).digests(stage) for stage in STAGES}
    for file in FILES:
        text = (root / file).read_bytes()
        (root / file).write_bytes(otherwise(text) if file.endswith(".py") else text + b"\n")
        now = Code(root)
        changed = {stage for stage in STAGES if now.digests(stage) != before[stage]}
        assert changed == {stage for stage in STAGES if file in runs[stage]}, file
        (root / file).write_bytes(text)


INTO_MODELS = ("scores_influence", "scores_trak", "scores_tracin", "scores_features")
ASKING = ("queries", "factors", "unlearned", *INTO_MODELS)  # counterfactuals follow from queries


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        *((f"src/begat/stages/{stage}.py", [stage]) for stage in STAGES),
        ("workflow/scripts/metrics.py", ["metrics"]),
        ("src/begat/reporting/page.html", ["report"]),
        ("src/begat/diffusion/sampling.py", ["queries"]),
        ("src/begat/diffusion/draws.py", ["queries", "factors", "unlearned", *INTO_MODELS]),
        ("src/begat/influence/trak_kernels.py", ["scores_trak"]),
        ("src/begat/unlearning/targets.py", ["unlearned"]),
        ("src/begat/ensembles/null_codes.py", ["counterfactuals"]),
        ("src/begat/evaluation/ranking_metrics.py", ["metrics"]),
        ("src/begat/diffusion/training.py", ["models"]),
        ("src/begat/diffusion/unet.py", ["models"]),
        ("src/begat/diffusion/denoisers.py", ASKING),
        ("src/begat/execution/trained.py", ASKING),
        ("src/begat/execution/networks.py", ["models"]),
        ("src/begat/data/pipelines.py", ["models"]),
        ("src/begat/execution/factor_arrays.py", ["factors", "unlearned"]),
        ("src/begat/execution/gradient_inputs.py", ["factors", *INTO_MODELS]),
        ("src/begat/data/datasets.py", ["images"]),
        ("src/begat/data/listings.py", ["images"]),
        ("src/begat/data/image_files.py", ["images"]),
        ("src/begat/data/query_names.py", ["queries"]),
        ("src/begat/data/safetensors_files.py", ["models"]),
        ("src/begat/planning/plan.py", []),
        ("src/begat/cli.py", []),
    ],
)
def test_another_constant_makes_exactly_the_stages_that_run_it_and_those_below_stale(
    root, file, stages
):
    before = keys(root)
    with (root / file).open("a") as source:
        source.write("CHANGED = 1\n")
    assert changed_stages(before, keys(root)) == set().union(*(DOWN[stage] for stage in stages))


def test_comments_docstrings_and_formatting_change_no_key(root):
    before = keys(root)
    for path in (root / file for file in FILES if file.endswith(".py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if code._is_idle(node, tree):
                node.value.value = "Another text."
        path.write_text(ast.unparse(tree).replace("\n", "  # changed\n", 1))
    assert keys(root) == before


def test_imports_within_functions_of_submodules_and_of_packages_are_followed(tmp_path):
    sources = {
        "workflow/scripts/a.py": "def f():\n    from begat.io import one, name\n",
        "src/begat/__init__.py": "",
        "src/begat/io/__init__.py": "name = 1\n",
        "src/begat/io/one.py": "class A:\n    def f(self):\n        import begat.core.two as t\n",
        "src/begat/core/__init__.py": "from begat.core.three import x\n",
        "src/begat/core/two.py": "from begat.io import plan\n",
        "src/begat/core/three.py": "x = 1\n",
        "src/begat/core/four.py": "",
        "src/begat/planning/plan.py": "import begat.core.four\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    left_out = {"src/begat/planning/plan.py", "src/begat/core/four.py"}
    assert set(Code(tmp_path).digests("a")) == set(sources) - left_out
    (tmp_path / "src/begat/core/three.py").write_text("x =\n")
    with pytest.raises(BegatError, match="src/begat/core/three.py:1: not Python: invalid syntax"):
        Code(tmp_path).digests("a")
    (tmp_path / "workflow/scripts/a.py").unlink()
    with pytest.raises(BegatError, match="workflow/scripts/a.py: expected a source file, found no"):
        Code(tmp_path).digests("a")


@pytest.mark.parametrize("stage", ["queries", "measurements", "counterfactuals"])
def test_the_network_of_a_pipeline_is_part_of_the_code_that_runs_it(stage):
    files = Code(ROOT).digests(stage)
    assert {"src/begat/diffusion/denoisers.py", "src/begat/data/pipelines.py"} <= set(files)


def test_neutral_modules_exist_are_imported_by_a_stages_code_and_are_no_mathematics():
    assert NEUTRAL <= MODULES
    assert not {m for m in NEUTRAL if m.startswith(("begat.core", "begat.stages"))}
    graph = grimp.build_graph("begat")
    reached = set()
    for stage in STAGES:
        reached |= imported_by(ROOT / "workflow" / "scripts" / f"{stage}.py")
        for module in expected_modules(stage):
            reached |= graph.find_modules_directly_imported_by(module)
    assert reached >= NEUTRAL


def test_all_mathematics_is_in_the_code_of_a_stage():
    mathematics = {path_of(m) for m in MODULES if m.startswith(("begat.core", "begat.stages"))}
    assert mathematics <= set(FILES)


def test_nothing_is_imported_by_a_name_that_only_the_running_program_knows():
    for file in FILES:
        assert not re.search(r"import_module|__import__|runpy", (ROOT / file).read_text()), file


def test_the_code_of_a_stage_reads_no_docstring():
    for file in FILES:
        assert "__doc__" not in (ROOT / file).read_text(), file


EVERYTHING = '''
"""A text."""
from __future__ import annotations
import a.b as c, d
from .e import *
@f(1)
async def g(h, /, i: "int" = -2, *j, k=None, **l) -> list[int]:
    "Another."
    global m
    async with n as o, p: q = await r
    async for s in t: yield
    return (u := f"{v!r:>{w}}{x=} \\n") + f"{'y'}" "ä\U0001fae8" + u"z" + b"\\x00".decode()
class A(B, metaclass=C):
    d: int = 0xff
    "A text that nothing reads."
    e = lambda *f, **g: [*f, {**g, 1.5e300: 2j}, {...}, not True]
try: pass
except* (H, I) as j: raise K from j
match l:
    case {"m": [n, *_], **o} | P(q=1) if o: del r[1:2, ::3]
    case None: assert s < t <= u, v
for w in (x async for y in z if y for x in y): break
else: w = yield_ = a @ b if c else ~d
'''


def test_a_digest_is_the_same_under_every_version_of_python():
    digest = code._parsed(EVERYTHING.encode()).digest
    assert digest == "4b8936b025a050c83e8f2be814d54b710c543c4a253c521c38e11a151ed36bb4"
