"""The report: one page of queries, scores, their agreement with retraining and their origin."""

from collections.abc import Iterator
from dataclasses import dataclass

from begat.config.fields import param
from begat.execution.context import JobContext
from begat.execution.costs import Cost, JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Job
from begat.stages.declaration import SCORES, Stage
from begat.storage.artifacts import Block


@dataclass(frozen=True)
class Report:
    """What the report shows."""

    queries: int = param("queries shown with their images", ge=1, le=10_000)
    top: int = param(
        "most helpful and most harmful images shown per query and method", ge=1, le=1_000
    )


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    names = [(job.stage, job.name) for job in table.jobs()]
    inputs = [name for name in names if name[0] not in ("models", "measurements")]
    words = {name: [method.label, method.description] for name, method in table.methods.items()}
    yield table.make("report", "all", inputs, tuple(table.spec.models), words=words)


def cost(sizes: JobSizes) -> Cost:
    """Returns what the page takes: a small image for every unit shown."""
    section, methods = sizes.params.of(Report), sizes.all_methods
    queries = min(section.queries, sizes.all_queries)
    page = 150_000.0 + queries * methods * 2 * section.top * (100 + 3 * sizes.pixels)
    scores = float(methods * sizes.all_queries * sizes.images)
    return sizes.cost("arrays", scores, 8 * scores + 4 * page, "", more=(page, 1))


def run(context: JobContext) -> None:
    """Write the page."""
    files: dict[str, str] = {}
    context.materialise(lambda context: _page(context, files), files=files)


def _page(context: JobContext, files: dict[str, str]) -> Iterator[Block]:
    from dataclasses import asdict

    import numpy as np

    from begat.execution import results
    from begat.execution.records import provenance
    from begat.reporting.page import Evidence, groups_with_a_class, page

    images, aggregated = context.input("images"), context.input("aggregated")
    guda, curves = context.input("scores_guda"), dict[str, list[np.ndarray]]()
    for pack in (p for p in context.inputs("models") if "training_loss" in p):
        for name, losses in zip(pack.attributes["models"], pack["training_loss"], strict=True):
            curves.setdefault(context.spec.model(name).kind, []).append(losses)
    groups, conditional = images.attributes["groups"], context.params.unet.class_conditional
    alone = groups_with_a_class(images["member_of"], images["label"]) if conditional else []
    kinds = [k for k in ("group_member", "member") if context.inputs("counterfactuals", f"{k}-")]
    evidence = Evidence(
        pixels=images["pixels"],
        names=images["name"].tolist(),
        groups=groups,
        member_of=images["member_of"],
        units=len(np.unique(images["cluster"])),
        queries=results.concatenated(context, "queries", "pixels"),
        query_names=results.query_names(context),
        image_scores=results.image_scores(context),
        group_methods=aggregated.attributes["methods"],
        measures=results.measures(context),
        leading=results.leading(context),
        group_score=aggregated["score"],
        group_uncertainty=aggregated["uncertainty"],
        group_p=results.group_p_values(context),
        unlearned_classes=[groups[g] for g in alone],
        redrawn={kind: results.redrawn(context, f"{kind}-") for kind in kinds},
        slots={k: context.inputs("counterfactuals", f"{k}-")[0].attributes["slots"] for k in kinds},
        summary=context.input("metrics").attributes["summary"],
        curves={kind: np.stack(rows) for kind, rows in curves.items()},
        packs=results.kinds_of_packs(context),
        params=asdict(context.params),
        made=[row for row in provenance(context.table) if row["key"] != context.job.key],
        edges=context.table.edges(),
        within=guda["within"] if "within" in guda else None,  # noqa: SIM401
        weight_profile=guda.attributes["weight_profile"],
        left_out={
            f.attributes["name"]: f.attributes["left_out"] for f in context.inputs("factors")
        },
    )
    section = context.params.of(Report)
    files["index.html"] = page(evidence, queries=section.queries, top=section.top)
    yield {}


STAGE = Stage(
    "report",
    "use seed *",
    f"images splits models queries factors unlearned counterfactuals {SCORES} aggregated metrics",
    jobs,
    run,
    section=Report,
    cost=cost,
)
