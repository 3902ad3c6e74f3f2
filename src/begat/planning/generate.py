"""The files that follow from others: ``python -m begat.planning.generate`` writes them anew.

With ``--params-file FILE`` it writes ``params.yaml`` alone, which then names that file.
"""

import json
import re
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path

from begat.config.documentation import commented, documentation
from begat.config.json_schema import json_schema
from begat.execution.jobs import path_of
from begat.execution.records import RECORDS
from begat.planning.code import Code
from begat.planning.plan import read_sections
from begat.stages import PARAMS, STAGES
from begat.stages.declaration import Stage
from begat.unlearning.operators import OPERATORS

MAPPINGS = {"unlearned.operator": OPERATORS}  # parameters that are mappings, chosen by their name

PLOTS = {  # tables of evaluation.agreement
    "lds": "LDS of images (held-out subsets)",
    "group_lds": "LDS of groups (held-out subsets)",
    "logo": "Leave-one-group-out retraining",
}
DVC_HEADER = """\
# Written by `make generate` from src/begat/stages (parameters, inputs, and the code that each `run`
# imports); edit those. One stage per stage of the method. Where a command runs is no
# part of it: SNAKEMAKE_PROFILE=workflow/profiles/slurm dvc repro. Results persist while a stage
# runs: keys and digests, not their absence, say what is made anew.
"""
SLURM = "workflow/profiles/slurm/config.yaml"
PARAMETER_FILES = (
    "params.yaml",
    *(f"params/{name}.yaml" for name in ("tiny", "fashion", "emoji", "cifar")),
)


def generated(root: Path) -> dict[str, str]:
    """Path below ``root`` and whole text of every generated file.

    Raises:
        BegatError: a source file is missing, or not Python.
    """
    profile = (root / SLURM).read_text()
    return {
        "dvc.yaml": dvc(root),
        "docs/parameters.md": documentation(PARAMS, MAPPINGS),
        "params.schema.json": json.dumps(json_schema(PARAMS, MAPPINGS), indent=1) + "\n",
        "README.md": between((root / "README.md").read_text(), "methods", methods()),
        SLURM: between(profile, "rules", slurm(profile)),
        **{name: commented((root / name).read_text(), PARAMS) for name in PARAMETER_FILES},
    }


def between(text: str, name: str, lines: Iterable[str]) -> str:
    """Returns a text with new lines between its lines that hold ``generated: name`` and ``end``."""
    marked = re.compile(rf"(?ms)(^[^\n]*generated: {name}\b[^\n]*\n).*?(^[^\n]*end of {name}\b)")
    block = "".join(f"{line}\n" for line in lines)
    return marked.sub(lambda match: f"{match[1]}{block}{match[2]}", text)


def methods() -> Iterator[str]:
    """Yields the table of scoring methods."""
    yield from ("| method | how | cost |", "|---|---|---|")
    for stage in (stage for stage in STAGES.values() if stage.methods):
        yield f"| `{stage.name.removeprefix('scores_')}` | {stage.summary} | {stage.price} |"


def slurm(profile: str) -> Iterator[str]:
    """Yields the resources of each rule that computes with models; GPUs as in the profile."""
    gpus = next(iter(re.findall(r"(?m)^    gpu: (\d+)", profile)), "0")
    for rule, stages in _rules().items():
        if any(stage.gpu for stage in stages):
            yield from (f"  {rule}:", f"    gpu: {gpus}")
            if memory := max(stage.memory_mb for stage in stages):
                yield f"    mem_mb: {memory}"


def _rules() -> dict[str, list[Stage]]:
    """The stages by the Snakemake rule that makes one of their artifacts."""
    rules: dict[str, list[Stage]] = {}
    for name, stage in STAGES.items():
        rule = f"{name}_{stage.each}" if stage.each else name
        rules.setdefault("scores" if stage.methods else rule, []).append(stage)
    return rules


def dvc(root: Path) -> str:
    """The text of ``dvc.yaml``."""
    code = Code(root)
    stages = ("\n".join(_stage(stage, list(code.digests(stage)))) + "\n" for stage in STAGES)
    folder = path_of("metrics", "all")
    metrics = f"metrics:\n  - {folder}/metrics.json\n"
    return "\n".join([f"{DVC_HEADER}stages:\n", *stages, metrics, *_plots(folder)])


def _plots(folder: Path) -> Iterator[str]:
    """Yields the plots of agreement with retraining, one bar for each method."""
    yield "plots:"
    for name, title in PLOTS.items():
        yield f"  - {folder}/{name}.csv:"
        yield f"      title: {title}"
        yield "      template: bar_horizontal\n      x: value\n      y: method"
        yield "      x_label: rank correlation with retraining\n      y_label: ''"
    yield ""


def _stage(stage: str, code: list[str]) -> Iterator[str]:
    declared = STAGES[stage]
    yield f"  {stage}:"
    yield f"    cmd: begat run {stage} --only"
    yield "    deps:"
    results = [_out(name) for name in STAGES if name in declared.inputs_among(STAGES)]
    yield from (f"      - {path}" for path in [*["data"] * declared.data, *code, *results])
    if names := read_sections(stage):
        yield from ("    params:", "      - ${params_file}:")
        yield from (f"          - {name}" for name in names)
    yield "    outs:"
    for out in (_out(stage), *[RECORDS] * (stage == "report")):
        yield from (f"      - {out}:", "          persist: true")


def _out(stage: str) -> Path:
    """What DVC tracks of a stage: the folder of its artifacts, or its only one."""
    path = path_of(stage, "all")
    return path if stage == "report" or stage.startswith("scores_") else path.parent


def naming(params_file: str, text: str) -> str:
    """The text of ``params.yaml``, with the file to read the rest from."""
    value = (
        params_file
        if re.fullmatch(r"[a-zA-Z][\w./-]*", params_file)
        else json.dumps(params_file, ensure_ascii=False)
    )
    return commented(
        re.sub(r"(?m)^params_file: .*", lambda _: f"params_file: {value}", text), PARAMS
    )


if __name__ == "__main__":
    parser = ArgumentParser(description="Write the files that follow from others.")
    parser.add_argument(
        "--params-file", help="let params.yaml name this file, and write nothing else"
    )
    params_file, index = parser.parse_args().params_file, Path("params.yaml")
    texts = (
        {index.name: naming(params_file, index.read_text())}
        if params_file
        else generated(Path.cwd())
    )
    for name, text in texts.items():
        Path(name).write_text(text)
