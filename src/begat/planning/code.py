"""The source files behind each stage, and their digests.

The code of a stage is the import closure of its script: every module of this package that
``workflow/scripts/<stage>.py`` imports, directly or not, at the top of a file or inside a function,
with the packages on the way and the template beside a module. ``NEUTRAL`` modules are left out, and
with them what only they import.

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

PACKAGE, SOURCES, SCRIPTS = "begat", Path("src"), Path("workflow/scripts")
NEUTRAL = {  # modules that change no number, and why
    "begat.errors",  # texts that end a job
    "begat.storage.artifacts",  # an array is read as it was written
    "begat.storage.checkpoints",  # a training that resumes ends with the same bits
    "begat.execution.contents",  # what came out, not how
    "begat.execution.context",  # opens, calls and writes; what it hands out are artifacts and parameters
    "begat.execution.jobs",  # what is made otherwise is another key
    "begat.planning.plan",  # what it decides about a job stands in the job's key, as a value
    "begat.execution.records",  # when, where and how long
    "begat.storage.digests",  # sha256 of what is given
    "begat.storage.schema",  # its VERSION is in every key
}
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
        self._sources: dict[Path, Source] = {}

    def digests(self, stage: str) -> dict[str, str]:
        """Every file of a stage's code, as a path below the root, and its digest.

        Raises:
            BegatError: a file that is missing, or not Python.
        """
        files, waiting = set[Path](), {SCRIPTS / f"{stage}.py"}
        while waiting:
            files.add(file := waiting.pop())
            waiting |= self._imported(file) - files
        found = {file.as_posix(): self._source(file).digest for file in sorted(files)}
        for template in (file.with_suffix(".html") for file in files):
            if (self._root / template).is_file():
                found[template.as_posix()] = file_digest(self._root / template)
        return found

    def _imported(self, file: Path) -> set[Path]:
        """The files of the modules that a file imports, and of the packages around them."""
        names = (name.split(".") for name in self._source(file).imports)
        modules = {".".join(parts[:n]) for parts in names for n in range(1, len(parts) + 1)}
        return {path for module in modules - NEUTRAL if (path := self._path(module))}

    def _path(self, module: str) -> Path | None:
        """The file of a module, below the root; None for what is no module of ours."""
        if module not in self._paths:
            place = SOURCES.joinpath(*module.split("."))
            files = (place.with_suffix(".py"), place / "__init__.py")
            self._paths[module] = next((f for f in files if (self._root / f).is_file()), None)
        return self._paths[module]

    def _source(self, path: Path) -> Source:
        if path not in self._sources:
            try:
                self._sources[path] = _parsed((self._root / path).read_bytes())
            except FileNotFoundError:
                raise BegatError(f"{path}: expected a source file, found none") from None
            except SyntaxError as error:
                raise BegatError(f"{path}:{error.lineno}: not Python: {error.msg}") from None
        return self._sources[path]


@cache
def _parsed(text: bytes) -> Source:
    tree = ast.parse(text)
    imports = [name for node in ast.walk(tree) for name in _imports(node)]
    return Source(digest(_written(tree, [])), tuple(n for n in imports if n.startswith(PACKAGE)))


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
    """A docstring, or the empty text that some versions of Python add to an f-string."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(parent, ast.JoinedStr) and isinstance(node, ast.Constant) and not node.value
