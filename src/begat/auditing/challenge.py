"""Challenge of a run's scores: fresh subsets are drawn after the scores were committed."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool

from begat.auditing.challenge_files import begin, write_outcome
from begat.auditing.fresh_models import FOLDER, Of, Request, losses_of_fresh, training_rows
from begat.ensembles.exposure import group_exposure
from begat.errors import BegatError, brief
from begat.evaluation.agreement import GroundTruth
from begat.evaluation.challenge import lds_rows, verdicts_on
from begat.evaluation.challenge_verdicts import MethodVerdict, Rule, subsets_needed
from begat.evaluation.intervals import MIN_ENTRIES
from begat.evaluation.predictions import Forecast, group_forecasts, image_forecasts
from begat.execution.contents import Contents
from begat.execution.context import JobContext
from begat.execution.jobs import Name
from begat.execution.results import additive_scores, first_seeds, losses, train_masks
from begat.planning.freshness import why
from begat.planning.plan import Plan
from begat.rng.seeds import numpy_generator
from begat.stages.metrics import Metrics
from begat.storage.cache import only_run
from begat.storage.digests import digest
from begat.storage.manifests import content_digest

Digests = Mapping[str, Mapping[str, str]]
KINDS: dict[Of, tuple[str, str]] = {  # kind of the committed models, table of the metrics
    "images": ("subset", "lds"),
    "groups": ("group_subset", "group_lds"),
}


@dataclass(frozen=True)
class Committed:
    """What a run stated before the challenge.

    Attributes:
        forecasts: method -> its prediction for subsets.
        claims: method -> its LDS on the committed subsets.
        truth: the committed subsets and the losses measured.
        rows: the images that the models on each committed subset train on.
        scores: artifact of scores -> its key and its content digest.
        sources: the same of the metrics and of the losses that the claims come from.
    """

    forecasts: Mapping[str, Forecast]
    claims: Mapping[str, float]
    truth: GroundTruth
    rows: Bool[np.ndarray, "subset image"]
    scores: Digests
    sources: Digests

    @property
    def digest(self) -> str:
        """The digest of all scores."""
        return digest(self.scores)

    def facts(self) -> dict[str, Any]:
        """Returns what the file of a challenge says of the run."""
        subsets, seeds, _ = self.truth.measured.shape
        sizes = {"committed_subsets": subsets, "seeds_per_subset": seeds}
        return {**sizes, "scores": dict(self.scores), "sources": dict(self.sources)}


def committed_scores(plan: Plan, of: Of, methods: Sequence[str]) -> Committed:
    """Returns the scores of a run, of these methods or of all, and its claims about them.

    Raises:
        BegatError: scores or claims that are missing or out of date, a run without enough subsets,
            or no such method.
    """
    _require_current(plan)
    context, (kind, table) = JobContext(plan, plan.job("metrics", "all")), KINDS[of]
    first = first_seeds(context, kind)
    if len(first) < MIN_ENTRIES:
        raise BegatError(
            f"splits.{kind}s: expected at least {MIN_ENTRIES} for a challenge of scores of {of}, "
            f"found {len(first)}"
        )
    rows = train_masks(context, first)
    forecasts = _forecasts(context, of)
    if unknown := [method for method in methods if method not in forecasts]:
        expected = ", ".join(forecasts)
        raise BegatError(f"--method {brief(unknown[0])}: expected one of {expected}")
    claims = context.input("metrics").attributes["summary"][table]["methods"]
    return Committed(
        {method: forecasts[method] for method in methods or forecasts},
        {method: claims[method]["value"] for method in methods or forecasts},
        GroundTruth(removed_units(plan, of, rows), losses(context, kind).mean(-1)),
        rows,
        _digests(plan, plan.scores()),
        _digests(plan, [("metrics", "all"), *plan.names("measurements", kind)]),
    )


def _require_current(plan: Plan) -> None:
    """Raise BegatError unless the metrics and all that they are computed from are up to date."""
    contents = Contents(plan.root)
    metrics = plan.job("metrics", "all")
    queries = plan.names("queries")
    for name in (*metrics.inputs, *queries, ("metrics", "all")):
        if name[0] != "models" and (reason := why(plan, job := plan.job(*name), contents)):
            raise BegatError(f"{job.path}: {reason}; run `begat run`")


def _forecasts(context: JobContext, of: Of) -> dict[str, Forecast]:
    additive = additive_scores(context)
    if of == "images":
        return image_forecasts(additive)
    aggregated = context.input("aggregated")
    scores = dict(zip(aggregated.attributes["methods"], aggregated["score"], strict=True))
    forecasts = group_forecasts(scores, additive, context.input("images")["member_of"])
    return {method: forecasts[method] for method in scores}  # without baselines


def removed_units(
    plan: Plan, of: Of, rows: Bool[np.ndarray, "subset image"]
) -> Bool[np.ndarray, "subset unit"]:
    """Returns the units that subsets lack."""
    if of == "images":
        return ~rows
    images = JobContext(plan, plan.job("metrics", "all")).input("images")
    return ~group_exposure(images["member_of"], rows).T


def _digests(plan: Plan, names: Sequence[Name]) -> dict[str, dict[str, str]]:
    """Returns the key and the content digest of artifacts."""
    jobs = [plan.job(*name) for name in names]
    return {
        f"{job.stage}/{job.name}": {
            "key": job.key,
            "content": str(content_digest(plan.root / job.path)),
        }
        for job in jobs
    }


def needs(plan: Plan, committed: Committed, rule: Rule) -> dict[str, Any]:
    """Returns how many subsets a challenge needs to accept each method, and how many models."""
    size, seeds, _ = committed.truth.measured.shape
    generator = numpy_generator(plan.params.seed, "challenge", "needs")
    resamples = plan.params.of(Metrics).resamples
    methods = {}
    for method, row in lds_rows(committed.forecasts, committed.truth, generator, resamples).items():
        needed = subsets_needed(row, size, rule)
        models = None if needed is None else needed * seeds
        methods[method] = {"claimed": row, "needed": needed, "models": models}
    return {"rule": asdict(rule), "committed_subsets": size, "methods": methods}


def challenge(
    plan: Plan, committed: Committed, seed: int, of: Of, subsets: int | None, rule: Rule
) -> dict[str, Any]:
    """Returns the outcome of a challenge, which is also written to ``results/challenges``.

    Args:
        plan: of the run.
        committed: its scores and claims.
        seed: of the verifier.
        of: the units in a subset.
        subsets: their number; None for as many as the run has.
        rule: when a verdict is given.

    Raises:
        BegatError: another challenge at work with this seed, a seed that was used for other scores,
            or scores that changed during the challenge.
    """
    request = Request(seed, of, subsets or len(committed.rows), committed.digest)
    with only_run(plan.root / FOLDER / request.name):
        notes = begin(plan.root, request, committed.facts())
        rows = training_rows(plan, request, committed.rows)
        with redirect_stdout(sys.stderr):  # what stages print is no part of the outcome
            measured = losses_of_fresh(plan, request, rows)
        if _digests(plan, plan.scores()) != committed.scores:
            raise BegatError("results/scores: changed during the challenge; use another seed")
        fresh = GroundTruth(removed_units(plan, of, rows), measured)
        verdicts = verdicts_on(
            committed.forecasts,
            committed.claims,
            committed.truth,
            fresh,
            rule,
            partial(numpy_generator, seed, "challenge", committed.digest),
            plan.params.of(Metrics).resamples,
        )
        outcome = notes | _outcome(verdicts, rows, measured, rule)
        write_outcome(plan.root, request.name, outcome)
    return outcome


def _outcome(
    verdicts: Mapping[str, MethodVerdict],
    rows: Bool[np.ndarray, "fresh image"],
    measured: np.ndarray,
    rule: Rule,
) -> dict[str, Any]:
    return {
        "rule": asdict(rule),
        "fresh_subsets": [digest(np.flatnonzero(row).tolist()) for row in rows],
        "losses": measured.tolist(),
        "methods": {method: asdict(verdict) for method, verdict in verdicts.items()},
    }
