"""HTML report: queries, scores, their agreement with retraining, and provenance."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from begat.config.fields import param
from begat.execution.context import JobContext
from begat.execution.costs import JobSizes
from begat.execution.job_table import JobTable
from begat.execution.jobs import Cost, Job
from begat.stages.declaration import SCORES, Stage
from begat.storage.artifacts import Block

if TYPE_CHECKING:
    import numpy as np

    from begat.reporting.report_data import ReportData


@dataclass(frozen=True)
class Report:
    """Extent of the report."""

    queries: int = param("queries shown with their images", ge=1, le=10_000)
    top: int = param(
        "most helpful and most harmful images shown per query and method", ge=1, le=1_000
    )


def jobs(table: JobTable) -> Iterator[Job]:
    """Yields the only job."""
    names = [(job.stage, job.name) for job in table.jobs()]
    inputs = [name for name in names if name[0] not in ("models", "measurements")]
    methods = table.methods.items()
    names_of_methods = {name: [m.label, m.description, m.headline] for name, m in methods}
    yield table.make(
        "report", "all", inputs, tuple(table.spec.models), method_names=names_of_methods
    )


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
    """Yields no arrays; the page is put into ``files``."""
    from begat.reporting.page import page

    section = context.params.of(Report)
    files["index.html"] = page(_data(context), queries=section.queries, top=section.top)
    yield {}


def _data(context: JobContext) -> "ReportData":
    """Returns the contents of the page."""
    from dataclasses import asdict

    import numpy as np

    from begat.execution import results
    from begat.execution.records import provenance
    from begat.reporting.method_names import MethodNames
    from begat.reporting.page import groups_with_a_class
    from begat.reporting.report_data import ReportData

    images, aggregated = context.input("images"), context.input("aggregated")
    guda, factors = context.input("scores_guda"), context.inputs("factors")
    groups, conditional = images.attributes["groups"], context.params.unet.class_conditional
    whole = groups_with_a_class(images["member_of"], images["label"]) if conditional else []
    kinds = [k for k in ("group_member", "member") if context.inputs("counterfactuals", f"{k}-")]
    return ReportData(
        pixels=images["pixels"],
        names=images["name"].tolist(),
        groups=groups,
        member_of=images["member_of"],
        units=len(np.unique(images["cluster"])),
        queries=results.concatenated(context, "queries", "pixels"),
        query_names=results.query_names(context),
        methods=MethodNames(context.table.methods),
        measures=results.measures(context),
        image_scores=results.image_scores(context),
        group_methods=aggregated.attributes["methods"],
        group_score=aggregated["score"],
        group_uncertainty=aggregated["uncertainty"],
        group_p=results.group_p_values(context),
        class_groups=[groups[group] for group in whole],
        counterfactuals={
            kind: results.counterfactual_images(context, f"{kind}-") for kind in kinds
        },
        slots={k: context.inputs("counterfactuals", f"{k}-")[0].attributes["slots"] for k in kinds},
        summary=context.input("metrics").attributes["summary"],
        curves=_training_losses(context),
        packs=results.kinds_of_packs(context),
        params=asdict(context.params),
        artifacts=[row for row in provenance(context.table) if row["key"] != context.job.key],
        edges=context.table.edges(),
        posterior_weights=guda["within"] if "within" in guda else None,  # noqa: SIM401
        weight_profile=guda.attributes["weight_profile"],
        untracked={f.attributes["name"]: f.attributes["left_out"] for f in factors},
    )


def _training_losses(context: JobContext) -> "dict[str, np.ndarray]":
    """Returns the training losses ``[model, step]`` of each kind of model."""
    import numpy as np

    losses = dict[str, list[np.ndarray]]()
    for pack in (p for p in context.inputs("models") if "training_loss" in p):
        for name, loss in zip(pack.attributes["models"], pack["training_loss"], strict=True):
            losses.setdefault(context.spec.model(name).kind, []).append(loss)
    return {kind: np.stack(rows) for kind, rows in losses.items()}


STAGE = Stage(
    "report",
    "params_file seed *",
    f"images splits models queries factors unlearned counterfactuals {SCORES} aggregated metrics",
    jobs,
    run,
    section=Report,
    cost=cost,
)
