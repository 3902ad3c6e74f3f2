"""Reader of results for jobs: training masks, losses, counterfactual images, scores."""

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
    """Returns one array of several artifacts, concatenated along ``axis``."""
    return np.concatenate([a[array] for a in context.inputs(stage, prefix)], axis)


def train_masks(context: JobContext, models: Sequence[Model]) -> np.ndarray:
    """Returns whether each model is trained on each image, as ``[model, image]``."""
    splits = context.input("splits")
    row = {model["name"]: i for i, model in enumerate(splits.attributes["models"])}
    return splits.rows("trains_on", np.array([row[model.name] for model in models]))


def first_seeds(context: JobContext, kind: str) -> list[Model]:
    """Returns one model per training set of a kind: the first seed of each."""
    return [model for model in context.spec.of_kind(kind) if model.seed == 0]


def losses(context: JobContext, kind: str) -> np.ndarray:
    """Returns the losses of all models of a kind, ``[index, seed, query, draw]``."""
    loss = concatenated(context, "measurements", "loss", f"{kind}-", axis=1)
    seeds = len({model.seed for model in context.spec.of_kind(kind)})
    return loss.reshape(-1, seeds, *loss.shape[1:])


def counterfactual_images(context: JobContext, prefix: str) -> dict[str, np.ndarray]:
    """Returns the counterfactuals by the ensemble of a kind: all arrays of their schema."""
    arrays = ("factual", "pixels", "unit", "distance")
    return {array: concatenated(context, "counterfactuals", array, prefix) for array in arrays}


def image_scores(context: Reader) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Returns every method's scores of images, with their p-values where it has any."""
    rows = {}
    for scores in context.scores():
        if "score" in scores:
            score = scores["score"]
            p_value = scores["p_value"] if "p_value" in scores else None  # noqa: SIM401
            for i, method in enumerate(scores.attributes["methods"]):
                rows[method] = (score[i], None if p_value is None else p_value[i])
    return rows


def additive_scores(context: Reader) -> dict[str, np.ndarray]:
    """Returns every method's scores of images in the form in which they may be summed over images.

    A score of a whole cluster of near-duplicates is divided by the number of its images.
    """
    shares, rows = even_shares(context.input("images")["cluster"]), dict[str, np.ndarray]()
    for scores in (s for s in context.scores() if "score" in s):
        score = scores["score"] * (shares if scores.attributes["of_clusters"] else 1.0)
        rows |= zip(scores.attributes["methods"], score, strict=True)
    return rows


def group_parts(
    context: Reader,
) -> Iterator[tuple[list[str], list[str], dict[str, np.ndarray]]]:
    """Yields, for each artifact of scores, its image methods, group methods and arrays to group.

    Image scores are those of ``additive_scores``.
    """
    additive = additive_scores(context)
    for scores in context.scores():
        arrays = {n: scores[n] for n in ("group_score", "group_uncertainty") if n in scores}
        methods = scores.attributes["methods"]
        if "score" in scores:
            arrays["score"] = np.stack([additive[m] for m in methods])
        yield methods, scores.attributes["group_methods"], arrays


def group_p_values(context: Reader) -> dict[str, np.ndarray]:
    """Returns the p-values of groups, of the methods that have any."""
    rows: dict[str, np.ndarray] = {}
    for scores in (s for s in context.scores() if "group_p_value" in s):
        rows |= zip(scores.attributes["methods"], scores["group_p_value"], strict=True)
    return rows


def measures(context: Reader) -> dict[str, Measure]:
    """Returns the measure of every method's scores, of images and of groups."""
    return {
        method: Measure(**measure)
        for scores in context.scores()
        for method, measure in scores.attributes["measures"].items()
    }


def query_names(context: Reader) -> list[str]:
    """Returns every query's name, its group in brackets; empty where it has no name of its own."""
    names, groups = list[str](), list[str]()
    for queries in context.inputs("queries"):
        blank = [""] * len(queries["label"])
        names += queries["name"].tolist() if "name" in queries else blank
        groups += queries["group"].tolist() if "group" in queries else blank
    pairs = zip(names, groups, strict=True)
    return [f"{name} ({group})" if group else name for name, group in pairs]


def kinds_of_packs(context: JobContext) -> dict[str, list[str]]:
    """Returns the kind of every model, by the pack that it is trained in."""
    packs = dict[str, list[str]]()
    for model in context.spec.models:
        packs.setdefault(model.pack, []).append(model.kind)
    return packs
