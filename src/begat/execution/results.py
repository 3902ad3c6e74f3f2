"""What a job takes from the results it reads: training sets, losses, scores."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from begat.ensembles.exposure import even_shares
from begat.ensembles.model_specs import Model
from begat.evaluation.measures import Measure
from begat.execution.context import JobContext
from begat.storage.artifacts import Artifact


@runtime_checkable
class Reader(Protocol):
    """Access to artifacts: a job's to its inputs, or ``reading``'s to all that are up to date."""

    def input(self, stage: str, name: str = "all") -> Artifact:
        """Returns one artifact."""

    def inputs(self, stage: str, prefix: str = "") -> list[Artifact]:
        """Returns all artifacts of a stage whose names begin with ``prefix``."""

    def scores(self) -> list[Artifact]:
        """Returns the artifacts of all scoring stages."""


def concatenated(
    context: JobContext, stage: str, array: str, prefix: str = "", axis: int = 0
) -> np.ndarray:
    """One array of several artifacts, end to end along ``axis``."""
    return np.concatenate([a[array] for a in context.inputs(stage, prefix)], axis)


def trains_on(context: JobContext, models: Sequence[Model]) -> np.ndarray:
    """Which images each of these models is trained on, as ``[model, image]``."""
    splits = context.input("splits")
    row = {model["name"]: i for i, model in enumerate(splits.attributes["models"])}
    return splits.rows("trains_on", np.array([row[model.name] for model in models]))


def first_seeds(context: JobContext, kind: str) -> list[Model]:
    """One model of each index of a kind: those that differ in what they were trained on."""
    return [model for model in context.spec.of_kind(kind) if model.seed == 0]


def losses(context: JobContext, kind: str) -> np.ndarray:
    """Losses of all models of a kind, ``[index, seed, query, draw]``."""
    found = concatenated(context, "measurements", "loss", f"{kind}-", axis=1)
    seeds = len({model.seed for model in context.spec.of_kind(kind)})
    return found.reshape(-1, seeds, *found.shape[1:])


def redrawn(context: JobContext, prefix: str) -> dict[str, np.ndarray]:
    """What was drawn again by the models of a kind: all arrays of the counterfactuals' schema."""
    arrays = ("factual", "pixels", "unit", "distance")
    return {array: concatenated(context, "counterfactuals", array, prefix) for array in arrays}


def image_scores(context: Reader) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Every method's scores of images, with their p-values where it has some."""
    found = {}
    for scores in context.scores():
        if "score" in scores:
            score = scores["score"]
            p_value = scores["p_value"] if "p_value" in scores else None  # noqa: SIM401
            for i, method in enumerate(scores.attributes["methods"]):
                found[method] = (score[i], None if p_value is None else p_value[i])
    return found


def additive_scores(context: Reader) -> dict[str, np.ndarray]:
    """Every method's scores of images as they may be summed over images.

    Of a score of a whole cluster of near-duplicates each image has its even share.
    """
    shares, found = even_shares(context.input("images")["cluster"]), dict[str, np.ndarray]()
    for scores in (s for s in context.scores() if "score" in s):
        score = scores["score"] * (shares if scores.attributes["of_clusters"] else 1.0)
        found |= zip(scores.attributes["methods"], score, strict=True)
    return found


def group_parts(
    context: Reader,
) -> Iterator[tuple[list[str], list[str], dict[str, np.ndarray]]]:
    """Of every artifact of scores: its methods for images, for groups, and what groups need of it.

    Image scores are as they may be summed (``additive_scores``).
    """
    additive = additive_scores(context)
    for scores in context.scores():
        arrays = {n: scores[n] for n in ("group_score", "group_uncertainty") if n in scores}
        methods = scores.attributes["methods"]
        if "score" in scores:
            arrays["score"] = np.stack([additive[m] for m in methods])
        yield methods, scores.attributes["group_methods"], arrays


def group_p_values(context: Reader) -> dict[str, np.ndarray]:
    """The p-values of groups, of the methods that have some."""
    found: dict[str, np.ndarray] = {}
    for scores in (s for s in context.scores() if "group_p_value" in s):
        found |= zip(scores.attributes["methods"], scores["group_p_value"], strict=True)
    return found


def measures(context: Reader) -> dict[str, Measure]:
    """What every method's scores are measured in, of images and of groups."""
    return {
        method: Measure(**measure)
        for scores in context.scores()
        for method, measure in scores.attributes["measures"].items()
    }


def query_names(context: Reader) -> list[str]:
    """What every query is called, its group in brackets; empty where it has no name of its own."""
    names, groups = list[str](), list[str]()
    for part in context.inputs("queries"):
        blank = [""] * len(part["label"])
        names += part["name"].tolist() if "name" in part else blank
        groups += part["group"].tolist() if "group" in part else blank
    both = zip(names, groups, strict=True)
    return [f"{name} ({group})" if group else name for name, group in both]


def kinds_of_packs(context: JobContext) -> dict[str, list[str]]:
    """The kind of every model, by the pack that it is trained in."""
    packs = dict[str, list[str]]()
    for model in context.spec.models:
        packs.setdefault(model.pack, []).append(model.kind)
    return packs
