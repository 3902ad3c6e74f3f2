"""The commands that prove what is in a training set."""

import json
from pathlib import Path
from typing import Annotated

import typer

from begat.errors import BegatError, brief
from begat.planning.plan import Plan

ParamsFile = Annotated[
    str | None,
    typer.Option("--params-file", help="Parameter file instead of the one that params.yaml names."),
]


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
