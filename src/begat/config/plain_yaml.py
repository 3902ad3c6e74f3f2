"""The part of YAML that every reader of a parameter file reads in the same way.

This package, Snakemake and DVC read the file with three libraries in two versions of YAML. What
they would read differently (``yes``, ``010``, ``1e-3``, ``.inf``, a key given twice) is text here,
or refused, and so is what a parameter file has no use for: tags, anchors and aliases.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from begat.errors import BegatError, brief

MOST_BYTES = 100_000  # a parameter file has 8,000; a second of reading


def read(root: Path, name: str) -> dict[str, Any]:
    """The mapping in the file ``name`` below ``root``.

    Raises:
        BegatError: no file, not UTF-8, too long, not YAML, no mapping; the line is named.
    """
    file = brief(name, 80)
    text = _text(root / name, file)
    try:
        parameters = yaml.load(text, _Loader)
    except _RefusedError as error:
        raise BegatError(f"{file}: {brief(error, 80)}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        problem = brief(error.problem or error.context or "", 80)
        raise BegatError(f"{file}: {line}not YAML: {problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BegatError(f"{file}: not YAML: {brief(error, 80)}") from None
    except RecursionError:
        raise BegatError(f"{file}: not YAML that can be read: nested too deeply") from None
    if not isinstance(parameters, dict):
        raise BegatError(f"{file}: expected sections of keys, found {type(parameters).__name__}")
    return parameters


def _text(path: Path, file: str) -> str:
    try:
        if not path.is_file():
            raise BegatError(f"{file}: expected a parameter file here, found none")
        with path.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise BegatError(f"{file}: could not be read ({error.strerror or error})") from None
    if len(content) > MOST_BYTES:
        raise BegatError(f"{file}: expected a parameter file of at most {MOST_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise BegatError(f"{file}: line {line}: expected UTF-8, found byte {byte:#04x}") from None


class _RefusedError(Exception):
    """YAML, but not of the plain part."""

    def __init__(self, event: Any, message: str) -> None:
        super().__init__(f"line {event.start_mark.line + 1}: {message}")


class _Loader(yaml.SafeLoader):
    """Plain YAML: scalars, lists and mappings with text as keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, rule) for tag, rule in resolvers if tag.endswith((":null", ":timestamp"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if event.anchor is not None:
            raise _RefusedError(event, "expected no anchor and no alias (& or *)")
        if event.tag is not None:
            raise _RefusedError(event, f"expected no tag, found {event.tag}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set[str]()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _RefusedError(key, "expected a key that is text")
            if key.value in keys:
                raise _RefusedError(key, f"{brief(key.value, 80)}: expected once, found twice")
            keys.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _form, _first in (
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), list(_first)
    )
