"""Command line: ``begat run``, ``top``, ``status``, ``audit`` and so on."""

import importlib.metadata
import json
import shlex
import subprocess
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from begat.auditing.commands import audit, challenge, prove
from begat.errors import BegatError, brief, shortened
from begat.execution.contents import Contents
from begat.execution.history import history, write_again
from begat.execution.jobs import path_of
from begat.execution.records import forget_copies, mend, record_path
from begat.planning.freshness import last_used, why
from begat.planning.plan import Plan
from begat.planning.tidy import damaged, repair, tidy, unrecorded
from begat.reading import Results
from begat.stages import STAGES
from begat.storage.cache import Store, only_run
from begat.storage.manifests import content_digest
from begat.top import print_query

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Which training images begat this one? Training-data attribution for diffusion models, "
    "checked against retraining. Run it in the project's folder.",
)
ParamsFile = Annotated[
    str | None,
    typer.Option("--params-file", help="Parameter file instead of the one that params.yaml names."),
]
console = Console()
REPORT = Path("results/report/index.html")


def _version(show: bool | None) -> None:
    if show:
        print(f"begat {importlib.metadata.version('begat')}")
        raise typer.Exit


@commands.callback()
def options(
    version: Annotated[
        bool | None,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = None,
) -> None:
    """Options that precede every command."""


def planned(params_file: str | None) -> Plan:
    """Returns the plan of a parameter file; prints a hint if the last run used another one."""
    plan = Plan(Path.cwd(), params_file)
    last = last_used(plan.root)
    if params_file is None and last not in ("", plan.params.params_file):
        hint = f"the last run used {brief(last)} (--params-file {brief(shlex.quote(last))})"
        print(f"begat: this is about {brief(plan.params.params_file)}; {hint}", file=sys.stderr)
    return plan


@commands.command(epilog="Example: [bold]begat run models --cores 8[/bold]")
def run(
    stages: Annotated[
        list[str] | None, typer.Argument(help="Stages to bring up to date; default: all.")
    ] = None,
    cores: Annotated[str, typer.Option(help="CPU cores to use: a number, or all.")] = "all",
    only: Annotated[
        bool, typer.Option("--only", help="Do not update the stages that these depend on.")
    ] = False,
    params_file: ParamsFile = None,
) -> None:
    """Compute everything that is missing or out of date, with Snakemake."""
    if unknown := [stage for stage in stages or [] if stage not in STAGES]:
        raise BegatError(f"{brief(unknown[0])}: expected a stage: {', '.join(STAGES)}")
    plan = Plan(Path.cwd(), params_file)
    with only_run(plan.root):
        tidy(plan)
    command = [sys.executable, "-m", "snakemake", "--cores", cores]
    command += ["--allowed-rules", *_rules(stages or [])] if only else []
    # Quoted YAML, since Snakemake would parse some file names as numbers or mappings; between
    # spaces, since it strips quotes at the ends before it parses the YAML.
    command += (
        ["--config", f"params_file= {json.dumps(params_file, ensure_ascii=False)} "]
        if params_file
        else []
    )
    command += ["--", *_targets(stages or [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _rules(stages: list[str]) -> list[str]:
    """Returns the names of the rules that make the artifacts of these stages."""
    scores = any(stage.startswith("scores_") for stage in stages)
    each = (f"{stage}_{STAGES[stage].each}" for stage in stages if STAGES[stage].each)
    return [*(s for s in stages if not s.startswith("scores_")), *each, *["scores"] * scores]


def _targets(stages: list[str]) -> list[str]:
    """Returns Snakemake's targets: the rule of a stage, or the file of a scoring stage."""
    return [str(path_of(s, "all")) if s.startswith("scores_") else s for s in stages]


@commands.command(epilog="Example: [bold]begat top --query 3 --groups[/bold]")
def top(
    query: Annotated[int, typer.Option(help="Number of the query, counted from 0.")],
    groups: Annotated[
        bool, typer.Option("--groups", help="Show groups instead of images.")
    ] = False,
    method: Annotated[str | None, typer.Option(help="Show only this method.")] = None,
    count: Annotated[int, typer.Option("-n", help="Number of units at either end.")] = 5,
    params_file: ParamsFile = None,
) -> None:
    """Print the training images or groups with the highest and lowest scores for a query."""
    results = Results(planned(params_file))
    print_query(console, results, query, groups, method, count)
    if results.missing:
        reasons = (f"{name} ({brief(why, 60)})" for name, why in results.missing.items())
        print(f"begat: not up to date, see `begat run`: {', '.join(reasons)}", file=sys.stderr)


@commands.command(epilog="Example: [bold]begat show --path[/bold]")
def show(
    path: Annotated[bool, typer.Option("--path", help="Only print its path.")] = False,
) -> None:
    """Open the report in a browser, or print its path."""
    report = REPORT.resolve()
    if not report.is_file():
        raise BegatError(f"{REPORT}: no report yet; run `begat run`")
    if path or not webbrowser.open(report.as_uri()):
        print(report)


@commands.command(epilog="Example: [bold]begat status --strict[/bold]")
def status(
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail unless every artifact is up to date.")
    ] = False,
    models: Annotated[
        bool, typer.Option("--models", help="Only list the names of the models.")
    ] = False,
    params_file: ParamsFile = None,
) -> None:
    """List which artifacts are current, stale or missing, and why."""
    plan = planned(params_file)
    if models:
        for model in plan.spec.models:
            print(model.name)
        return
    contents = Contents(plan.root)
    reasons = {job.path: why(plan, job, contents) for job in plan.jobs()}
    table = Table(Column("artifact", no_wrap=True), Column("state", no_wrap=True), "why")
    for path, reason in reasons.items():
        state = "current" if not reason else "missing" if reason == "missing" else "stale"
        colour = {"current": "green", "stale": "yellow", "missing": "red"}[state]
        table.add_row(
            str(path.relative_to("results")),
            Text(state, colour),
            Text(reason if state == "stale" else ""),
        )
    console.print(Text(f"{brief(plan.params.params_file)}: {len(plan.spec.models)} models"))
    console.print(table)
    if strict:
        spoiled = [f"{job.path} ({files[0]})" for job, files in damaged(plan)]
        spoiled += [f"{record_path(job.key)} ({reason})" for job, reason in unrecorded(plan)]
        spoiled += [f"{path} ({fault})" for path, fault in history(plan.root).faults.items()]
        if spoiled:
            raise BegatError(f"damaged: {shortened(spoiled)}; run `begat verify`")
        _require_current([path for path, reason in reasons.items() if reason])


def _require_current(outdated: Sequence[Path]) -> None:
    """Raise BegatError if an artifact is not up to date."""
    if outdated:
        raise BegatError(
            f"{outdated[0]} and {len(outdated) - 1} more are not current; run `begat run`"
        )


@commands.command(
    "plan", epilog="Example: [bold]begat plan --params-file params/cifar.yaml --probe[/bold]"
)
def plan_costs(
    probe: Annotated[
        bool, typer.Option("--probe", help="First time small jobs here, for about a minute.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    params_file: ParamsFile = None,
) -> None:
    """Show what a run takes before it starts: jobs, hours, memory, disk space and files."""
    from begat.planning.cost_table import print_costs

    print_costs(console, planned(params_file), probe=probe, as_json=as_json)


@commands.command(epilog="Example: [bold]begat verify[/bold]")
def verify(params_file: ParamsFile = None) -> None:
    """Compare every file of the results with its digest, and repair damaged artifacts.

    A damaged artifact is restored from the store (.begat/store). If the store does not have it, it
    is removed, and the next run computes it again. The command fails if any artifact is then
    missing or out of date. A damaged record is restored from its copy, or replaced by one that
    states that nothing is known.
    """
    plan = planned(params_file)
    with only_run(plan.root):
        for job, files in damaged(plan):
            state = "restored from the store" if repair(plan, job) else "removed"
            more = ", ..." if len(files) > 3 else ""
            print(f"{job.path}: damaged, {state} ({', '.join(files[:3])}{more})")
        for job, reason in unrecorded(plan):
            restored = mend(plan.root, job, content_digest(plan.root / job.path))
            state = "restored from its copy" if restored else "replaced by one without values"
            print(f"{record_path(job.key)}: {reason}, {state}")
        log = history(plan.root)
        for path, fault in {**log.faults, **log.shorter}.items():
            print(f"{path}: {fault}, written again from both copies")
        write_again(plan.root)
    contents = Contents(plan.root)
    _require_current([job.path for job in plan.jobs() if why(plan, job, contents)])
    print(f"{len(plan.jobs())} artifacts are intact and up to date")


@commands.command(epilog="Example: [bold]begat export full-0-0 my-pipeline[/bold]")
def export(
    model: Annotated[str, typer.Argument(help="Name of the model (see begat status --models).")],
    target: Annotated[Path, typer.Argument(help="A new directory.")],
    weights: Annotated[
        str, typer.Option(help="ema (moving average) or raw (last optimiser step).")
    ] = "ema",
    params_file: ParamsFile = None,
) -> None:
    """Write a trained model as a diffusers pipeline."""
    from begat.execution.export import export as write

    write(planned(params_file).spec, model, weights, target)
    print(target.resolve())


@commands.command(epilog="Example: [bold]begat clean --dry-run[/bold]")
def clean(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be removed.")
    ] = False,
    params_file: ParamsFile = None,
) -> None:
    """Remove results that the current parameters do not need from the store (.begat/store)."""
    plan, store = planned(params_file), Store(Path.cwd())
    needed = {job.key for job in plan.jobs()} | set(plan.model_keys.values())
    unused = {key: size for key, size in store.entries().items() if key not in needed}
    for key in [] if dry_run else unused:
        store.forget(key)
    if not dry_run:
        forget_copies(plan.root, needed)
    verb = "would be removed" if dry_run else "removed"
    print(f"{len(unused)} results {verb}, {sum(unused.values()) / 2**20:.1f} MiB")


commands.command(epilog="Example: [bold]begat audit --query 3 --method ekfac --image 120[/bold]")(
    audit
)
commands.command(epilog="Example: [bold]begat prove photo.png --out proof.json[/bold]")(prove)
commands.command(epilog="Example: [bold]begat challenge --seed 1234 --of groups[/bold]")(challenge)


def app() -> None:
    """Run the command line; errors that a user can correct are printed in one line."""
    try:
        commands()
    except BegatError as error:
        sys.exit(f"begat: {error}")


if __name__ == "__main__":
    app()
