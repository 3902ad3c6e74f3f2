"""Declared scoring methods: their words, and what their measures allow to conclude."""

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np

from begat.evaluation.measures import COSINE, FIRST_ORDER, LOSS, NATS
from begat.execution.results import measures, query_names
from begat.reporting.extremes import remark
from begat.stages import METHODS
from begat.storage.artifacts import string_array


def reader(*artifacts):
    """Access to artifacts that are plain objects."""
    return SimpleNamespace(
        input=lambda stage: artifacts[0],
        inputs=lambda stage: list(artifacts),
        scores=lambda: list(artifacts),
    )


def test_measures_are_read_from_the_artifacts():
    parts = {"a": FIRST_ORDER, "b": COSINE}, {"c": LOSS}
    attributes = [{"measures": {m: asdict(v) for m, v in part.items()}} for part in parts]
    by_method = measures(reader(*(SimpleNamespace(attributes=a) for a in attributes)))
    assert by_method == parts[0] | parts[1]
    remarks = [remark(by_method[name]) for name in "abc"]
    assert remarks == ["sign and order only", "order only", ""]


def test_centred_scores_kernels_of_other_functions_and_similarities_claim_no_sign():
    unsigned = {name for name, method in METHODS.items() if not method.measure.signed}
    centred = {name for name in METHODS if name.endswith("_centred")}
    pixels = {name for name in METHODS if name.startswith("pixel_")}
    joined = {"joined", "joined_by_error"}
    assert unsigned == centred | pixels | joined | {"dtrak", "das", "features_cosine"}


def test_only_differences_measured_with_another_model_are_in_loss_or_nats():
    in_loss = {name for name, method in METHODS.items() if method.measure == LOSS}
    ensembles = {name for name in METHODS if name.startswith("ensemble_")}
    retrained = {"logo_retrained", "logo_paired", "logo_independent"}
    assert in_loss == ensembles | retrained | {"guda_loss"}
    in_nats = {name for name, method in METHODS.items() if method.measure == NATS}
    assert in_nats == {name for name in METHODS if "_elbo" in name} - {"guda_elbo_centred"}
    signed = {name for name, method in METHODS.items() if method.measure.signed}
    calibrated = {name for name, method in METHODS.items() if method.measure.calibrated}
    assert signed & calibrated == in_loss | in_nats
    assert "first order" in METHODS["ekfac"].measure.unit
    for name in ("trak", "dtrak", "das", "tracin", "features_cosine", "pixel_rbf"):
        assert "noise error" not in METHODS[name].measure.unit


def test_every_method_has_a_label_of_its_own_and_a_description():
    labels = [method.label for method in METHODS.values()]
    assert len(set(labels)) == len(labels)
    assert [name for name, method in METHODS.items() if not method.description] == []


def test_queries_have_names_and_groups_where_their_artifacts_do():
    parts = [
        {
            "label": np.zeros(2),
            "name": string_array(["a.png", "b.png"]),
            "group": string_array(["x", ""]),
        },
        {"label": np.zeros(1)},
    ]
    assert query_names(reader(*parts)) == ["a.png (x)", "b.png", ""]
