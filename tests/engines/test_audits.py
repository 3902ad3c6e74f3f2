"""Audits of a finished run: by both engines, in a clone, after a change, and computed again."""

import json

import pytest

pytestmark = pytest.mark.engine
SCORE = ("--query", "1", "--method", "ekfac", "--image", "12")


def audited(workspace, *options, holds=True):
    """What an audit says, as JSON."""
    said = workspace.begat("audit", *options, "--json", fails=not holds)
    return json.JSONDecoder().raw_decode(said, said.index("{"))[0]  # progress bars follow


def test_a_finished_run_holds_and_every_result_has_a_line_of_the_history(finished):
    result = audited(finished)
    assert result["holds"]
    assert result["changes_without_effect"] == []
    assert len(result["artifacts"]) == 31
    assert all(artifact["history_line"] is not None for artifact in result["artifacts"])
    assert result["history"]["line"] == 31


def test_a_score_is_followed_to_its_image_and_computed_again_to_the_same_bits(project):
    result = audited(project, *SCORE, "--recompute")
    assert result["score"]["method"] == "ekfac"
    assert result["image"]["number"] == 12
    assert result["choices"]["planned"] == 0 < result["choices"]["truth"]
    again = result["recomputed"]
    assert (again["difference"], again["tolerance"]) == (0, 0)
    assert again["same_bits"] == ["results/scores/influence.zarr"]
    assert not list((project.root / ".begat" / "audit").iterdir())


def test_models_that_are_trained_again_have_the_same_bits(project):
    again = audited(project, *SCORE, "--recompute", "--deep")["recomputed"]
    assert not again["other_bits"]
    assert again["models"] is None, "one seed only: nothing to compare with"
    assert "results/models/full-0.zarr" in again["same_bits"]


def test_results_that_were_pulled_hold_in_a_clone(clone):
    assert audited(clone)["holds"]
    assert audited(clone, *SCORE)["holds"]


def test_a_choice_that_was_changed_after_retraining_was_measured_is_named(project):
    project.change("scores_trak", "damping", 0.5)
    project.snakemake()
    result = audited(project, "--query", "1", "--method", "trak", "--image", "12")
    (late,) = result["choices"]["late"]
    assert late["parameter"] == "scores_trak.damping"
    assert late["value"] == 0.5
    assert audited(project, *SCORE)["choices"]["late"] == []


def test_a_score_that_is_not_what_was_written_does_not_hold(project):
    chunk = next((project.root / "results/scores/influence.zarr").glob("score/c.*"))
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.unlink()
    chunk.write_bytes(content)
    result = audited(project, holds=False)
    assert any("influence.zarr/score" in fault for fault in result["faults"])
