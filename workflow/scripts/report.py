"""Make the page that a person reads."""

from collections.abc import Iterator

import numpy as np

from begat.execution import results
from begat.execution.context import Run, main
from begat.execution.records import provenance
from begat.reporting.page import Evidence, groups_with_a_class, page
from begat.storage.artifacts import Block


def body(run: Run) -> None:
    files: dict[str, str] = {}

    def compute(run: Run) -> Iterator[Block]:
        images, aggregated = run.read("images"), run.read("aggregated")
        forgot, curves = run.read("scores_guda"), dict[str, list[np.ndarray]]()
        for pack in (p for p in run.reads("models") if "training_loss" in p):
            for name, losses in zip(pack.attributes["models"], pack["training_loss"], strict=True):
                curves.setdefault(run.plan.model(name).kind, []).append(losses)
        groups, told = images.attributes["groups"], run.params["unet"]["conditional"]
        alone = groups_with_a_class(images["member_of"], images["label"]) if told else []
        kinds = [k for k in ("group_member", "member") if run.reads("counterfactuals", f"{k}-")]
        evidence = Evidence(
            pixels=images["pixels"],
            names=images["name"].tolist(),
            groups=groups,
            member_of=images["member_of"],
            units=len(np.unique(images["cluster"])),
            queries=results.joined(run, "queries", "pixels"),
            query_names=results.query_names(run),
            image_scores=results.image_scores(run),
            group_methods=aggregated.attributes["methods"],
            measures=results.measures(run),
            leading=results.leading(run),
            group_score=aggregated["score"],
            group_uncertainty=aggregated["uncertainty"],
            group_p=results.group_p_values(run),
            unlearned_classes=[groups[g] for g in alone],
            redrawn={kind: results.redrawn(run, f"{kind}-") for kind in kinds},
            slots={k: run.reads("counterfactuals", f"{k}-")[0].attributes["slots"] for k in kinds},
            summary=run.read("metrics").attributes["summary"],
            curves={kind: np.stack(rows) for kind, rows in curves.items()},
            packs=results.kinds_of_packs(run),
            params=run.params,
            made=[row for row in provenance(run.plan) if row["key"] != run.job.key],
            edges=run.plan.edges(),
            within=forgot["within"] if "within" in forgot else None,  # noqa: SIM401
            weight_profile=forgot.attributes["weight_profile"],
            left_out={f.attributes["name"]: f.attributes["left_out"] for f in run.reads("factors")},
        )
        files["index.html"] = page(evidence, **run.section("report"))
        yield {}

    run.finish(compute, files=files)


main("report", body)
