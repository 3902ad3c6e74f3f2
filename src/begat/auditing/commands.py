"""The commands that audit and challenge scores, and prove what is in a training set."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from begat.errors import BegatError, brief
from begat.planning.plan import Plan

ParamsFile = Annotated[
    str | None,
    typer.Option("--params-file", help="Parameter file instead of the one that params.yaml names."),
]


def audit(
    artifact: Annotated[
        str | None, typer.Argument(help="Path of one artifact, below the project's folder.")
    ] = None,
    query: Annotated[int | None, typer.Option(help="Number of the query, from 0.")] = None,
    method: Annotated[str | None, typer.Option(help="The scoring method.")] = None,
    image: Annotated[str | None, typer.Option(help="Number or name of a training image.")] = None,
    group: Annotated[str | None, typer.Option(help="Number or name of a group.")] = None,
    again: Annotated[
        bool, typer.Option("--recompute", help="Also compute the score again, from the models.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="With --recompute: from the images, training included.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    params_file: ParamsFile = None,
) -> None:
    """Check where a score came from: every artifact, digest, record and image behind it.

    With --query, --method and --image or --group, it audits one score; with a path, one artifact;
    with neither, the whole run and all copies on this machine. Every byte is read and compared
    with what was recorded when it was written; nothing is changed. The command fails if anything
    is not what it was.
    """
    from begat.auditing.audit import audit as made
    from begat.auditing.printing import print_audit, print_recomputed, print_tolerance
    from begat.auditing.question import ask
    from begat.auditing.recompute import jobs_again, recompute

    if artifact and (query, method, image, group) != (None,) * 4:
        raise BegatError("expected the path of an artifact or the options of a score, found both")
    plan, question = Plan(Path.cwd(), params_file), None
    if (query, method, image, group) != (None,) * 4:
        if query is None or method is None:
            raise BegatError("a score: expected --query, --method and --image or --group")
        question = ask(plan, query, method, image, group)
    if (again or deep) and (question is None or not again):
        raise BegatError("--recompute (with --deep or without) is for one score: expected --query")
    result, console = made(plan, question, artifact), Console(stderr=as_json)
    summary, holds = result.summary(), result.holds
    if not as_json:
        print_audit(console, result)
    if question and again:
        jobs = jobs_again(plan, question, deep)
        print_tolerance(console, jobs)
        number = recompute(plan, question, jobs)
        print_recomputed(console, number)
        summary["recomputed"], holds = number.summary(), holds and number.holds
    if as_json:
        print(json.dumps(summary, indent=1))
    if not holds:
        raise typer.Exit(1)


def prove(
    image: Annotated[Path | None, typer.Argument(help="PNG, JPEG or WebP file.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the proof; default: proof.json.")
    ] = None,
    within: Annotated[
        int, typer.Option(min=0, max=16, help="Bits of 64 in which near copies may differ.")
    ] = 4,
    root: Annotated[
        bool, typer.Option("--root", help="Only print the root, which commits to the images.")
    ] = False,
    verifier: Annotated[
        Path | None, typer.Option(help="Only write the script that checks proofs to this file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the proof, or the root, as JSON.")
    ] = False,
    params_file: ParamsFile = None,
) -> None:
    """Prove that an image is in the training set, or that it is not.

    The proof discloses no other training image. It is about the file's bytes and about its pixels,
    decoded as the training images were. An image that merely resembles a training image is
    recognised by its perceptual hash. Whoever knows the root checks the proof with a script that
    needs only Python. The command succeeds whichever of the two is proven.
    """
    from begat.auditing.run_membership import prove_membership, training_set
    from begat.storage.manifests import put_text

    if [image is not None, root, verifier is not None].count(True) != 1:
        raise BegatError("expected an image, or --root, or --verifier FILE")
    if verifier:
        put_text(verifier, Path(__file__).with_name("check_membership.py").read_text())
        print(verifier.resolve())
        return
    plan = Plan(Path.cwd(), params_file)
    if image is None:
        training = training_set(plan)
        whole = {"root": training.root, "commitment": training.commitment}
        print(json.dumps(whole, indent=1) if as_json else training.root)
        return
    result = prove_membership(plan, image, within)
    text = json.dumps(result.as_json(), indent=1)
    place = out or (None if as_json else Path("proof.json"))
    if place:
        put_text(place, f"{text}\n")
    if as_json:
        print(text)
        return
    first, *more = result.sentences()
    print(f"{brief(image)}: {first}", *more, sep="\n- ")
    print(f"root: {result.proof['root']}\nproof: {brief(place)} (--verifier writes what checks it)")


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
