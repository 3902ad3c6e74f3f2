"""Contents of the report as arrays and plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from begat.evaluation.measures import Measure
from begat.reporting.method_names import SUMMED, MethodNames


@dataclass(frozen=True)
class ReportData:
    """Everything that the page shows.

    Attributes:
        pixels, names: of the training images.
        groups, member_of: names of the groups, and which images belong to each.
        units: training images that count separately, without near-duplicates.
        queries: in model range -1..1.
        query_names: name and group of each query, empty where it has none.
        methods: labels, descriptions and order of the scoring methods.
        measures: unit and sign of every method's scores, of images or of groups.
        image_scores: method -> (score, p-value or None).
        group_methods, group_score, group_uncertainty: one row per method.
        group_p: method -> p-values, of the methods that have them.
        class_groups: the groups that contain all images of a class of a conditional model.
        counterfactuals: ``member`` or ``group_member`` -> arrays of the ``counterfactuals`` schema.
        slots: the same -> why each slot's unit was chosen.
        summary: of ``evaluation.agreement.evaluate``.
        curves: kind of model -> training loss.
        packs: pack of models -> the kind of each model in it.
        params: all parameters, by section.
        artifacts: one row per artifact: stage, name, key, seconds, device and so on.
        edges: pairs of a stage and a stage that it reads.
        posterior_weights: weight of each image of the group with the highest unlearning score,
            given the noised query; None if unlearning is disabled.
        weight_profile: share of the ELBO's weight in equal intervals of time; empty likewise.
        untracked: model -> parameters that influence scores leave out
            (``influence.factors.left_out``).
    """

    pixels: UInt8[np.ndarray, "image channel y x"]
    names: Sequence[str]
    groups: Sequence[str]
    member_of: Bool[np.ndarray, "group image"]
    units: int
    queries: Float[np.ndarray, "query channel y x"]
    query_names: Sequence[str]
    methods: MethodNames
    measures: Mapping[str, Measure]
    image_scores: Mapping[
        str, tuple[Float[np.ndarray, "query image"], Float[np.ndarray, "query image"] | None]
    ]
    group_methods: Sequence[str]
    group_score: Float[np.ndarray, "method query group"]
    group_uncertainty: Float[np.ndarray, "method query group"]
    group_p: Mapping[str, Float[np.ndarray, "query group"]]
    class_groups: Sequence[str]
    counterfactuals: Mapping[str, Mapping[str, np.ndarray]]
    slots: Mapping[str, Sequence[str]]
    summary: Mapping[str, Any]
    curves: Mapping[str, Float[np.ndarray, "model step"]]
    packs: Mapping[str, Sequence[str]]
    params: Mapping[str, Any]
    artifacts: Sequence[Mapping[str, Any]]
    edges: Sequence[tuple[str, str]]
    posterior_weights: Float[np.ndarray, "query image"] | None
    weight_profile: Sequence[float]
    untracked: Mapping[str, Mapping[str, Any]]

    def measure(self, method: str) -> Measure:
        """Returns unit and sign of a method's scores; sums of image scores have those of images."""
        return self.measures[method.removesuffix(SUMMED)]

    def lds_rows(self) -> Mapping[str, Any]:
        """Returns the agreement of image scores with retraining, by method; empty if unchecked."""
        rows: Mapping[str, Any] = self.summary.get("lds", {}).get("methods", {})
        return rows
