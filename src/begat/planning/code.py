"""The source files behind each stage, and their digests.

The code of a stage is the import closure of its function ``run``: what ``run`` uses in the stage's
own module (its ``jobs``, costs and checks are left out), and every module of this package that this
imports, directly or not, at the top of a file or inside a function, with the template beside a
module. ``NEUTRAL`` modules are left out, and with them what only they import.

A digest is of the syntax tree without docstrings: a comment, a docstring or a line break changes
none. The tree is written out here, since ``ast.dump`` and ``ast.unparse`` write the same tree in
other words under another version of Python, and a key must not depend on that.
"""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

from begat.errors import BegatError
from begat.storage.digests import digest, file_digest

PACKAGE, SOURCES, STAGES = "begat", Path("src"), Path("src/begat/stages")
NEUTRAL = {  # modules that change no number, and why
    "begat",  # public names for notebooks
    "begat.config.fields",  # parameters are in the keys by their values
    "begat.config.schema",  # likewise
    "begat.errors",  # texts that end a job
    "begat.execution.contents",  # digests of inputs, compared and not computed with
    "begat.execution.context",  # opens, calls and writes; its inputs are artifacts and parameters
    "begat.execution.records",  # when, where and how long
    "begat.execution.run_spec",  # its decisions about a job are in the job's key, as values
    "begat.storage.artifacts",  # an array is read as it was written
    "begat.storage.checkpoints",  # a training that resumes ends with the same bits
    "begat.storage.digests",  # sha256
    "begat.storage.schema",  # its VERSION is in every key
}
DECLARED = ("Method", "param")  # calls whose arguments are words, or in the keys by their values
DECLARATIONS = f"{PACKAGE}.stages."
TEMPLATES = (".html", ".css")  # endings of files that belong to the module beside them
SPELLING = ("ctx", "kind")  # fields of a tree that follow from the others, or from its quotes


class Source(NamedTuple):
    """What matters of a file: the digest of its tree, and the dotted names that it imports."""

    digest: str
    imports: tuple[str, ...]


class Code:
    """The sources below one root, each read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths: dict[str, Path | None] = {}
        self._sources: dict[tuple[Path, str], Source] = {}

    def digests(self, stage: str) -> dict[str, str]:
        """Every file of a stage's code, as a path below the root, and its digest.

        Raises:
            BegatError: a file that is missing, or not Python.
        """
        own = STAGES / f"{stage}.py"
        files, waiting = {own}, self._imported(run := self._source(own, "run"))
        while waiting:
            files.add(file := waiting.pop())
            waiting |= self._imported(self._source(file)) - files
        digests = {file.as_posix(): self._source(file).digest for file in sorted(files - {own})}
        for template in (
            file.with_suffix(ending) for file in sorted(files) for ending in TEMPLATES
        ):
            if (self._root / template).is_file():
                digests[template.as_posix()] = file_digest(self._root / template)
        return {own.as_posix(): run.digest, **digests}

    def _imported(self, source: Source) -> set[Path]:
        """The files of the modules that a source imports, and of the packages around them."""
        names = (name.split(".") for name in source.imports if not name.startswith(DECLARATIONS))
        modules = {".".join(parts[:n]) for parts in names for n in range(1, len(parts) + 1)}
        return {path for module in modules - NEUTRAL if (path := self._path(module))}

    def _path(self, module: str) -> Path | None:
        """The file of a module, below the root; None for what is no module of ours."""
        if module not in self._paths:
            place = SOURCES.joinpath(*module.split("."))
            files = (place.with_suffix(".py"), place / "__init__.py")
            self._paths[module] = next((f for f in files if (self._root / f).is_file()), None)
        return self._paths[module]

    def _source(self, path: Path, start: str = "") -> Source:
        """A file, or what its function ``start`` uses of it."""
        if (path, start) not in self._sources:
            try:
                self._sources[path, start] = _parsed((self._root / path).read_bytes(), start)
            except FileNotFoundError:
                raise BegatError(f"{path}: expected a source file, found none") from None
            except SyntaxError as error:
                raise BegatError(f"{path}:{error.lineno}: not Python: {error.msg}") from None
        return self._sources[path, start]


@cache
def _parsed(text: bytes, start: str) -> Source:
    tree = ast.parse(text)
    tree = _used(tree, start) if start else tree
    imports = [name for node in ast.walk(tree) for name in _imports(node)]
    return Source(digest(_written(tree, [])), tuple(n for n in imports if n.startswith(PACKAGE)))


def _used(tree: ast.Module, start: str) -> ast.Module:
    """The statements of a module that one of its functions uses, directly or not."""
    binding: dict[str, set[ast.stmt]] = {}
    for node in tree.body:
        for name in _bound(node):
            binding.setdefault(name, set()).add(node)
    names, used = {start}, set[ast.stmt]()
    while statements := set[ast.stmt]().union(*(binding.get(name, ()) for name in names)) - used:
        used |= statements
        loaded = (n for node in statements for n in ast.walk(node) if isinstance(n, ast.Name))
        names |= {name.id for name in loaded}
    return ast.Module([node for node in tree.body if node in used], [])


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    return [
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    ]


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _written(node: ast.AST, words: list[str]) -> list[str]:
    """A tree as a flat list, without empty fields and docstrings."""
    words.append(f"({type(node).__name__}")
    for field in node._fields:
        value = getattr(node, field)
        if value is None or value == [] or field in SPELLING:
            continue
        words.append(field)
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, ast.AST):
                words.append(ascii(part))
            elif not _is_idle(part, node):
                _written(part, words)
    words.append(")")
    return words


def _is_idle(node: ast.AST, parent: ast.AST) -> bool:
    """A docstring, a declaration's argument, or the empty text that f-strings may hold.

    A parameter's default is no such argument: where a file gives no value, no key has it.
    """
    if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name):
        default = isinstance(node, ast.keyword) and node.arg == "default"
        return parent.func.id in DECLARED and node is not parent.func and not default
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(parent, ast.JoinedStr) and isinstance(node, ast.Constant) and not node.value
