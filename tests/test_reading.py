"""Reading the results of a half-finished run."""

import numpy as np
import pytest
from plans import copied, planned
from put import put_images_and_queries, put_scores

from begat.errors import BegatError
from begat.evaluation.measures import LOSS
from begat.execution.contents import Contents
from begat.reading import Results


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setattr(Contents, "read_by", lambda self, job: {})  # as if no result read another
    return planned(copied(tmp_path))


def test_a_run_without_results_has_names_and_a_reason_for_every_missing_method(plan):
    results = Results(plan)
    assert len(results.image_names) == 200
    assert results.group_names == list(plan.spec.dataset.groups)
    assert results.query_names == results.methods == results.group_methods == []
    assert {results.missing[name] for name in ("trak", "pixel", "guda")} == {"missing"}
    with pytest.raises(BegatError, match="expected a method with scores: none; run `begat run`"):
        results.image_scores("trak")


def test_scores_that_are_up_to_date_are_read_with_their_p_values_and_measure(plan):
    put_images_and_queries(plan)
    score = np.random.default_rng(0).normal(size=(1, 4, 200)).astype(np.float32)
    put_scores(plan, "scores_pixel", "pixel_rbf", score=score)
    put_scores(plan, "scores_ensemble", "ensemble_matched", score=score, p_value=np.abs(score) % 1)
    results = Results(plan)
    assert results.query_names[1] == "[/b].png (dogs)"
    assert results.methods == results.group_methods == ["ensemble_matched", "pixel_rbf"]
    scores = results.image_scores("ensemble_matched")
    np.testing.assert_array_equal(scores.values, score[0])
    np.testing.assert_array_equal(scores.p_values, np.abs(score[0]) % 1)
    assert scores.measure == LOSS
    assert results.image_scores("pixel_rbf").p_values is None
    assert "pixel" not in results.missing


@pytest.mark.numerics
def test_image_scores_are_summed_over_groups_unless_a_method_scores_groups_itself(plan):
    put_images_and_queries(plan)
    score, group_score = np.ones((1, 4, 200)), np.full((1, 4, 10), 0.5)
    arrays = dict(score=score, group_score=group_score, group_uncertainty=group_score)
    put_scores(plan, "scores_ensemble", "ensemble_matched", **arrays)
    results = Results(plan)
    assert results.group_methods == ["ensemble_matched", "ensemble_matched_summed"]
    np.testing.assert_array_equal(results.group_scores("ensemble_matched").values, group_score[0])
    sizes = np.bincount([groups[0] for groups in plan.spec.dataset.membership])
    summed = results.group_scores("ensemble_matched_summed")
    np.testing.assert_allclose(summed.values, np.tile(sizes, (4, 1)))
    assert summed.measure == LOSS
