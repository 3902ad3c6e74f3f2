"""The code in a key: which files, and which changes of them matter."""

import ast
import re
import symtable
from dataclasses import replace

import grimp
import pytest
from plans import DOWN, changed_stages, copied, keys
from small import ROOT

from begat.errors import BegatError
from begat.evaluation.measures import NATS
from begat.planning import code
from begat.planning.code import NEUTRAL, Code
from begat.stages import METHODS, STAGES

FILES = sorted(set().union(*(Code(ROOT).digests(stage) for stage in STAGES)))
MODULES = grimp.build_graph("begat").modules
MATHEMATICS = tuple(
    f"begat.{family}"
    for family in ("diffusion", "ensembles", "evaluation", "influence", "rng", "unlearning")
)


@pytest.fixture
def root(tmp_path):
    return copied(tmp_path)


def path_of(module):
    """The file of a module, as keys name it."""
    place = ROOT / "src" / module.replace(".", "/")
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return file.relative_to(ROOT).as_posix()


def stage_file(stage):
    """The module of a stage, as keys name it."""
    return f"src/begat/stages/{stage}.py"


def modules_of(node):
    """The modules of this package that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & MODULES
    full = {f"{node.module}.{alias.name}" for alias in node.names}
    return {name if name in MODULES else node.module for name in full} & MODULES


def names_used(stage):
    """The names at the top of a stage's module that ``run`` uses, by Python's own symbol tables."""
    text = (ROOT / stage_file(stage)).read_text()
    tables = {
        table.get_name(): table for table in symtable.symtable(text, "x", "exec").get_children()
    }
    bound = {
        node.targets[0].id: node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }

    def globals_of(table):
        own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        return own.union(*map(globals_of, table.get_children()))

    names, waiting = set(), {"run"}
    while waiting:
        names.add(name := waiting.pop())
        within = globals_of(tables[name]) if name in tables else set()
        value = bound.get(name, ast.Constant(0))
        within |= {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
        waiting |= within - names
    return names


def functions_used(stage):
    """The functions of a stage's module that ``run`` calls, itself included."""
    tree = ast.parse((ROOT / stage_file(stage)).read_text())
    names = names_used(stage)
    return [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in names]


def imported_by(stage):
    """The modules of this package that ``run`` imports, and what it uses of its module."""
    text, names, modules = (ROOT / stage_file(stage)).read_text(), names_used(stage), set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and {a.asname or a.name for a in node.names} & names:
            modules |= modules_of(node)
    for function in functions_used(stage):
        nodes = (n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom))
        modules |= set().union(*map(modules_of, nodes))
    return modules


def expected_modules(stage):
    """What ``run`` reaches by imports, by another library's graph of them."""
    graph = grimp.build_graph("begat")
    for module in NEUTRAL - {"begat"}:
        graph.remove_module(module)
    declared = {module for module in MODULES if module.startswith("begat.stages.")}
    reached = imported_by(stage) - NEUTRAL - declared
    for module in list(reached):
        reached |= graph.find_upstream_modules(module)
    return reached | {module.rpartition(".")[0] for module in reached}


def expected_files(stage):
    files = {path_of(module) for module in expected_modules(stage) - {"begat"}}
    names = ("page.html", "page.css", "cards.html", "charts.html") if stage == "report" else ()
    templates = {f"src/begat/reporting/{name}" for name in names}
    return files | templates | {stage_file(stage)}


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_of_a_stage_is_all_that_its_run_imports(stage):
    files, expected = set(Code(ROOT).digests(stage)), expected_files(stage)
    assert files >= expected
    # Annotations name types of neutral modules, whose packages are then in the closure.
    assert all(file.endswith("/__init__.py") for file in files - expected)


def declared_calls(tree):
    """The calls that declare a parameter or a method."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [c for c in calls if isinstance(c.func, ast.Name) and c.func.id in code.DECLARED]


def otherwise(text):
    """A source with its first whole number changed, or with one more constant."""
    tree = ast.parse(text)
    declared = {node for call in declared_calls(tree) for node in ast.walk(call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is int and node not in declared:
            lines = text.splitlines(keepends=True)
            line, start, end = lines[node.lineno - 1], node.col_offset, node.end_col_offset
            if line[start:end].isdigit():
                lines[node.lineno - 1] = line[:start] + b"7" + line[start:]
                return b"".join(lines)
    return text + b"CHANGED = 1\n"


def test_another_constant_in_any_file_changes_exactly_the_code_of_the_stages_that_run_it(root):
    before = {stage: Code(root).digests(stage) for stage in STAGES}
    for file in (file for file in FILES if not file.startswith("src/begat/stages/")):
        text = (root / file).read_bytes()
        (root / file).write_bytes(otherwise(text) if file.endswith(".py") else text + b"\n")
        now = Code(root)
        changed = {stage for stage in STAGES if now.digests(stage) != before[stage]}
        assert changed == {stage for stage in STAGES if file in before[stage]}, file
        (root / file).write_bytes(text)


@pytest.mark.parametrize("stage", STAGES)
def test_another_constant_in_a_function_that_run_uses_changes_the_code_of_its_stage_alone(
    root, stage
):
    before = {name: Code(root).digests(name) for name in STAGES}
    for function in functions_used(stage):
        tree = ast.parse((ROOT / stage_file(stage)).read_text())
        changed = next(n for n in tree.body if getattr(n, "name", "") == function.name)
        changed.body.insert(0, ast.parse("CHANGED = 1").body[0])
        (root / stage_file(stage)).write_text(ast.unparse(ast.fix_missing_locations(tree)))
        now = Code(root)
        assert {name for name in STAGES if now.digests(name) != before[name]} == {stage}


class Redeclared(ast.NodeTransformer):
    """A module with other jobs, checks and costs, help texts and words."""

    def visit_FunctionDef(self, node):
        if node.name in ("jobs", "check", "evaluations"):
            node.body.insert(0, ast.parse("CHANGED = 1").body[0])
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in (*code.DECLARED, "Stage"):
            texts = (n for n in ast.walk(node) if isinstance(n, ast.Constant))
            for text in (n for n in texts if isinstance(n.value, str)):
                text.value += " changed"
        return node


def test_other_jobs_checks_costs_help_texts_and_words_change_no_key(root):
    before, changes = keys(root), 0
    for stage in STAGES:
        tree = ast.parse((root / stage_file(stage)).read_text())
        text = ast.unparse(tree)
        changed = ast.unparse(ast.fix_missing_locations(Redeclared().visit(tree)))
        (root / stage_file(stage)).write_text(f"{changed}\nUNUSED = 1\n")
        changes += sum(a != b for a, b in zip(text, changed, strict=False)) > 0
    assert changes == len(STAGES)
    assert keys(root) == before


def test_the_words_of_a_method_are_in_the_key_of_the_report_alone(root, monkeypatch):
    before = keys(root)
    other = {name: replace(m, label="another", description="other") for name, m in METHODS.items()}
    monkeypatch.setattr("begat.planning.plan.METHODS", other)
    assert changed_stages(before, keys(root)) == {"report"}


@pytest.mark.parametrize("change", [dict(of="groups"), dict(headline=False), dict(measure=NATS)])
def test_what_artifacts_say_of_a_method_is_in_the_keys_of_its_stage(root, monkeypatch, change):
    before, stage = keys(root), STAGES["scores_trak"]
    methods = {name: replace(method, **change) for name, method in stage.methods.items()}
    monkeypatch.setitem(STAGES, stage.name, replace(stage, methods=methods))
    assert changed_stages(before, keys(root)) == DOWN["scores_trak"]


def test_the_default_of_a_parameter_is_in_the_digest_and_its_help_is_not():
    def digest(text):
        return code._parsed(f"class A:\n    a: int = param({text})\n".encode(), "").digest

    assert digest("'help', default=1") == digest("'other', default=1, ge=3")
    assert digest("'help', default=1") != digest("'help', default=2")


@pytest.mark.parametrize("stage", STAGES)
def test_what_run_takes_from_another_stage_is_its_class_of_parameters(stage):
    text, used = (ROOT / stage_file(stage)).read_text(), names_used(stage)
    for node in (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)):
        if not node.module.startswith("begat.stages"):
            continue
        for name in {alias.name for alias in node.names} & used:
            owner = node.module.rpartition(".")[2]
            assert STAGES[owner].section.__name__ == name
    for function in functions_used(stage):
        nodes = (n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom))
        assert not any("begat.stages" in ast.unparse(node) for node in nodes)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_module_only_imports_assigns_names_and_defines(stage):
    _, *statements = ast.parse((ROOT / stage_file(stage)).read_text()).body
    for node in statements:
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) == "TYPE_CHECKING"
        elif isinstance(node, ast.Assign):
            names = [n for t in node.targets for n in (t.elts if isinstance(t, ast.Tuple) else [t])]
            assert all(isinstance(name, ast.Name) for name in names)
        else:
            assert isinstance(
                node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.AnnAssign
            )


def test_only_declarations_call_what_declares():
    owners = {"src/begat/config/schema.py", *map(stage_file, STAGES)}
    for file in (file for file in FILES if file.endswith(".py") and file not in owners):
        for call in declared_calls(ast.parse((ROOT / file).read_text())):
            assert call.func.id == "param", file  # a class of parameters of its own


INTO_MODELS = ("scores_influence", "scores_trak", "scores_tracin", "scores_features")
ASKING = ("queries", "factors", "unlearned", *INTO_MODELS)  # counterfactuals follow from queries


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        *((stage_file(stage), []) for stage in STAGES),  # beside what ``run`` uses
        ("workflow/scripts/stage.py", []),
        ("src/begat/reporting/page.html", ["report"]),
        ("src/begat/diffusion/sampling.py", ["queries"]),
        ("src/begat/diffusion/draws.py", ["queries", "factors", "unlearned", *INTO_MODELS]),
        ("src/begat/influence/trak_kernels.py", ["scores_trak"]),
        ("src/begat/unlearning/targets.py", ["unlearned"]),
        ("src/begat/ensembles/null_codes.py", ["counterfactuals", "scores_ensemble"]),
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
        "src/begat/stages/a.py": "import begat.io\nimport begat.core.five\n"
        "from begat.io import six\nfrom begat.stages.b import B\n"
        "def run(job):\n    from begat.io import one, name\n    begat.core.five, B\n"
        "def jobs(table):\n    six\n",
        "src/begat/stages/b.py": "import begat.core.four\n",
        "src/begat/io/__init__.py": "name = 1\n",
        "src/begat/io/one.py": "class A:\n    def f(self):\n        import begat.core.two as t\n",
        "src/begat/io/six.py": "",
        "src/begat/core/__init__.py": "from begat.core.three import x\n",
        "src/begat/core/two.py": "from begat.execution import context\n",
        "src/begat/core/three.py": "x = 1\n",
        "src/begat/core/four.py": "",
        "src/begat/core/five.py": "",
        "src/begat/execution/__init__.py": "",
        "src/begat/execution/context.py": "import begat.core.four\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    left_out = {"execution/context.py", "core/four.py", "stages/b.py", "io/six.py"}
    expected = set(sources) - {f"src/begat/{name}" for name in left_out}
    assert set(Code(tmp_path).digests("a")) == expected
    (tmp_path / "src/begat/core/three.py").write_text("x =\n")
    with pytest.raises(BegatError, match="src/begat/core/three.py:1: not Python: invalid syntax"):
        Code(tmp_path).digests("a")
    (tmp_path / "src/begat/stages/a.py").unlink()
    with pytest.raises(BegatError, match="src/begat/stages/a.py: expected a source file, found no"):
        Code(tmp_path).digests("a")


@pytest.mark.parametrize("stage", ["queries", "measurements", "counterfactuals"])
def test_the_network_of_a_pipeline_is_part_of_the_code_that_runs_it(stage):
    files = Code(ROOT).digests(stage)
    assert {"src/begat/diffusion/denoisers.py", "src/begat/data/pipelines.py"} <= set(files)


def test_neutral_modules_exist_are_imported_by_a_stages_code_and_are_no_mathematics():
    assert NEUTRAL <= MODULES
    assert not {m for m in NEUTRAL if m.startswith(MATHEMATICS)}
    graph = grimp.build_graph("begat")
    reached = set()
    for stage in STAGES:
        reached |= imported_by(stage)
        for module in expected_modules(stage) & MODULES:
            reached |= graph.find_modules_directly_imported_by(module)
    assert reached | {"begat"} >= NEUTRAL  # the package around all


def test_all_mathematics_is_in_the_code_of_a_stage_or_of_an_audit():
    mathematics = {module for module in MODULES if module.startswith(MATHEMATICS)}
    graph, audits = grimp.build_graph("begat"), {m for m in MODULES if "begat.auditing." in m}
    audits |= set().union(*map(graph.find_modules_directly_imported_by, audits))
    assert {path_of(module) for module in mathematics - audits} <= set(FILES)


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
    digest = code._parsed(EVERYTHING.encode(), "").digest
    assert digest == "4b8936b025a050c83e8f2be814d54b710c543c4a253c521c38e11a151ed36bb4"
