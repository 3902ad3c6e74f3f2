"""Hold all scores against retraining, and lay the headline numbers beside them for DVC."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from begat.ensembles.exposure import groups_seen
from begat.evaluation.agreement import Redrawn, Truth, evaluate, headline
from begat.evaluation.removals import groups_of
from begat.execution import results
from begat.execution.context import Run, main
from begat.execution.results import additive_scores, first_seeds, losses, trains_on
from begat.storage.artifacts import Block


def compute(
    run: Run, summary: dict[str, Any], methods: list[str], files: dict[str, str]
) -> Iterator[Block]:
    images, aggregated, truths = run.read("images"), run.read("aggregated"), dict[str, Truth]()
    first = {kind: first_seeds(run, kind) for kind in ("half", "group_half")}
    if first["half"]:
        removed = ~trains_on(run, first["half"])
        truths["lds"] = Truth(removed, losses(run, "half").mean(-1))
    if first["group_half"]:
        removed = ~groups_seen(images["member_of"], trains_on(run, first["group_half"])).T
        truths["group_lds"] = Truth(removed, losses(run, "group_half").mean(-1))
    found, tables = evaluate(
        additive_scores(run),
        dict(zip(aggregated.attributes["methods"], aggregated["score"], strict=True)),
        images["member_of"],
        truths,
        dict(redrawn(run)),
        images["pixels"] / 127.5 - 1,
        seed=run.seed,
        **run.section("metrics"),
    )
    summary |= found
    files["metrics.json"] = json.dumps(headline(found), indent=1) + "\n"
    methods += dict.fromkeys(method for table in tables.values() for method in table)
    missing = np.full(aggregated["score"].shape[1], np.nan)
    for table in ("lds", "group_lds", "logo_spearman") if methods else ():
        yield {table: np.stack([tables.get(table, {}).get(m, missing) for m in methods])}


def redrawn(run: Run) -> Iterator[tuple[str, Redrawn]]:
    images = run.read("images")
    units = {"group_member-": groups_of(images["member_of"]), "member-": images["cluster"][:, None]}
    for name, kind in (("groups_redrawn", "group_member-"), ("images_redrawn", "member-")):
        if drawn := run.reads("counterfactuals", kind):
            slots = drawn[0].attributes["slots"] if kind == "member-" else []
            helpful = sum(slot.startswith("helpful") for slot in slots)
            yield name, Redrawn(**results.redrawn(run, kind), units=units[kind], helpful=helpful)


def body(run: Run) -> None:
    made: dict[str, Any] = {"summary": {}, "methods": [], "files": {}}
    run.finish(lambda run: compute(run, **made), **made)


main("metrics", body)
