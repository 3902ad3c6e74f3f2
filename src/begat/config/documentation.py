"""Comments of parameter files and the page of all parameters, from the declarations."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from begat.config.fields import plain_type
from begat.config.schema import Params, fields_of, sections

SIGNS = {"ge": "≥", "gt": ">", "le": "≤"}
TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list[int]: "a list of whole numbers",
    list[float]: "a list of numbers",
    list[bool]: "a list of true and false",
    list[str]: "a list of text",
    dict[str, Any]: "a mapping",
}


def explained(field: dataclasses.Field[Any]) -> str:
    """Returns a parameter's help with its choices and unit, as its comment in the file has it."""
    rule = field.metadata
    choices = f" ({', '.join(map(str, rule['choices']))})" if rule["choices"] else ""
    return f"{rule['help']}{choices}{' [' + rule['unit'] + ']' if rule['unit'] else ''}"


def documentation(schema: type[Params], mappings: Mapping[str, Mapping[str, type]]) -> str:
    """Returns the page ``docs/parameters.md``; ``mappings`` as for ``json_schema``."""
    lines = [
        "# Parameters",
        "",
        "All parameters of a run, in `params.yaml`, or the file that its key `params_file` or",
        "`--config params_file=...` names. Changing a parameter marked *plan* changes which jobs",
        "there are and leaves the results of the others as they are. Written by `make generate`.",
    ]
    for section, owner in {"": schema, **sections(schema)}.items():
        lines += ["", f"## {section or 'top level'}", ""]
        lines += [str(owner.__doc__), ""] if section else []
        lines += ["| key | type | meaning | bounds |", "|---|---|---|---|"]
        lines += [_row(name, field) for name, field in fields_of(owner).items()]
        for key in (k for k in fields_of(owner) if f"{section}.{k}" in mappings):
            lines += _choices(f"{section}.{key}", mappings[f"{section}.{key}"])
    return "\n".join(lines) + "\n"


def _choices(key: str, classes: Mapping[str, type]) -> Iterator[str]:
    """The parameters of each class that a mapping may name."""
    yield from ("", f"### {key}", "", "A mapping: a name, and its own parameters where they")
    yield from ("differ from the defaults in brackets.", "")
    yield from ("| name | meaning | parameters |", "|---|---|---|")
    for name, owner in classes.items():
        fields = fields_of(owner).items()
        own = "; ".join(f"`{k}` ({f.default}): {explained(f)}" for k, f in fields)
        yield f"| `{name}` | {str(owner.__doc__).strip()} | {own} |"


def _row(name: str, field: dataclasses.Field[Any]) -> str:
    rule = field.metadata
    bounds = [f"{sign} {rule[k]}" for k, sign in SIGNS.items() if rule[k] is not None]
    bounds += ["plan"] if rule["plans_only"] else []
    return f"| `{name}` | {TYPES[plain_type(field)]} | {explained(field)} | {', '.join(bounds)} |"


def commented(text: str, schema: type[Params]) -> str:
    """Returns a parameter file with its values as written, and the declared comments and order."""
    order = ["", *sections(schema)]
    blocks = [_commented_block(block, schema) for block in text.rstrip("\n").split("\n\n")]
    declared = [block for block in blocks if _title(block) in order]
    others = [block for block in blocks if _title(block) not in order]
    declared.sort(key=lambda block: order.index(_title(block)))
    return "\n\n".join([*declared, *others]) + "\n"


def _title(block: str) -> str:
    """Returns the section that a block describes; empty for the top level and its comments."""
    title = re.search(r"^(\w+):$", block, re.MULTILINE)
    return title[1] if title else ""


def _commented_block(block: str, schema: type[Params]) -> str:
    """Returns a section, or the keys of the top level; other text stays as it is."""
    section = _title(block)
    owner = sections(schema).get(section, schema)
    values = dict(re.findall(r"^ *(\w+): (.*?)(?:  +#.*)?$", block, re.MULTILINE))
    fields = {name: field for name, field in fields_of(owner).items() if name in values}
    if not fields:
        return block
    indent = "  " if section else ""
    width = max(len(f"{indent}{name}: {values[name]}") for name in fields)
    lines = [f"# {owner.__doc__}", f"{section}:"] if section else []
    for name, field in fields.items():
        lines.append(f"{f'{indent}{name}: {values[name]}':{width}}  # {explained(field)}")
    return "\n".join(lines)
