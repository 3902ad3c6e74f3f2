"""The commands that audit scores."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from begat.errors import BegatError
from begat.planning.plan import Plan

ParamsFile = Annotated[
    str | None,
    typer.Option("--params-file", help="Parameter file instead of the one that params.yaml names."),
]


def challenge(
    seed: Annotated[
        int | None, typer.Option(min=0, help="The verifier's own number, chosen after the run.")
    ] = None,
    of: Annotated[
        Literal["groups", "images"], typer.Option(help="Draw subsets of groups or of images.")
    ] = "groups",
    subsets: Annotated[
        int | None, typer.Option(min=4, help="Number of subsets; default: as many as the run has.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Only this method; may be repeated.")
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Only print the number of subsets that are needed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    params_file: ParamsFile = None,
) -> None:
    """Check the LDS of each method on fresh subsets, drawn after its scores were computed.

    Models are trained on subsets of groups or images that the seed draws. A method is rejected if
    its LDS there is significantly below the LDS that the run reports, or if its scores are no
    better than with the names of the units exchanged. It is accepted if at least half of its LDS
    is confirmed. Otherwise there are too few subsets to say. The outcome is written to
    results/challenges. The command fails if a method is rejected.
    """
    from begat.auditing.challenge import challenge as made
    from begat.auditing.challenge import committed_scores, needs
    from begat.auditing.challenge_table import print_challenge, print_needs
    from begat.evaluation.challenge_verdicts import Rule

    plan, rule, console = Plan(Path.cwd(), params_file), Rule(), Console()
    committed = committed_scores(plan, of, method or [])
    if plan_only:
        table = needs(plan, committed, rule)
        print(json.dumps(table, indent=1)) if as_json else print_needs(console, table)
        return
    if seed is None:
        raise BegatError("--seed: expected a number of the verifier's own, found none")
    outcome = made(plan, committed, seed, of, subsets, rule)
    print(json.dumps(outcome, indent=1)) if as_json else print_challenge(console, outcome)
    if any(row["verdict"] == "rejected" for row in outcome["methods"].values()):
        raise typer.Exit(1)
