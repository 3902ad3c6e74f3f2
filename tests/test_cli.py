"""What a person types, and what begat says when it has less than everything."""

import importlib.metadata

import numpy as np
import pytest
from plans import copied, planned
from rich.console import Console
from typer.testing import CliRunner

from begat import cli
from begat.errors import BegatError
from begat.evaluation.measures import LOSS
from begat.execution.contents import Contents
from begat.planning.freshness import Freshness
from begat.stages import STAGES
from begat.storage.artifacts import padded_text, write

TINY = "params/tiny.yaml"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    plan = planned(copied(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "console", Console(width=200))
    monkeypatch.setattr(Contents, "read_by", lambda self, job: {})  # as if no result read another
    return plan


def put(plan, stage, arrays, name="all", **attributes):
    """An artifact in its place, as its job would write it."""
    job = plan.job(stage, name)
    attributes |= {"key": job.key, "read": {}, "made_from": dict(job.made_from)}
    write(plan.root / job.path, stage, attributes, [arrays])


def put_images_and_queries(plan):
    names, groups = plan.spec.dataset.names, len(plan.spec.dataset.groups)
    images, membership = len(names), np.array(plan.spec.dataset.membership)
    number = np.arange(images, dtype=np.int32)
    text = {name: np.zeros((images, 4), np.uint8) for name in ("sha256", "file_sha256")}
    arrays = dict(pixels=np.zeros((images, 1, 8, 8), np.uint8), name=padded_text(names), **text)
    arrays |= dict(member_of=np.arange(groups)[:, None] == membership.T)
    put(plan, "images", arrays | dict.fromkeys(("copy_of", "cluster", "label"), number))
    called = padded_text(["a.png", "[/b].png", "c.png", "d.png"])
    arrays = dict(pixels=np.zeros((4, 1, 8, 8)), noise=np.zeros((4, 1, 1, 8, 8)), name=called)
    arrays |= dict(group=padded_text(["dogs"] * 4), condition=called, file_sha256=called)
    put(plan, "queries", arrays | dict(label=np.zeros(4, np.int32)), "0")


def put_scores(plan, stage, method, of_clusters=False, **arrays):
    measures = {method: dict(vars(LOSS))}
    more = dict(group_methods=[method], measures=measures, leading=[], of_clusters=of_clusters)
    put(plan, stage, arrays, methods=[method], **more)


def said(*command):
    found = CliRunner().invoke(cli.commands, list(command))
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_the_version_is_said():
    assert said("--version").stdout == f"begat {importlib.metadata.version('begat')}\n"


def test_an_unknown_stage_is_refused_with_all_stages(plan):
    with pytest.raises(BegatError, match=f"^nosuch: expected a stage: {', '.join(STAGES)}$"):
        said("run", "models", "nosuch")


def test_top_of_images_needs_one_methods_scores_alone(plan):
    put_images_and_queries(plan)
    score = np.zeros((1, 4, 200), np.float32)
    score[0, 1, 7] = 0.5
    put_scores(plan, "scores_pixel", "pixel_rbf", score=score)
    found = said("top", "--query", "1", "--use", TINY)
    assert "query 1: [/b].png (dogs)" in found.stdout
    assert f"{plan.spec.dataset.names[7]} (" in found.stdout
    [line] = found.stderr.splitlines()
    assert line.startswith("begat: without what `begat run` is to make: ensemble (missing), ")
    assert "pixel" not in line


def test_top_of_groups_needs_no_table_of_all_methods_and_shows_their_p_values(plan):
    put_images_and_queries(plan)
    score, group_score = np.zeros((1, 4, 200)), np.zeros((1, 4, 10))
    score[0, 0, 7], group_score[0, 0, 3] = 0.25, 0.5
    how = dict(group_uncertainty=group_score, group_p_value=np.full((1, 4, 10), 0.125))
    put_scores(plan, "scores_ensemble", "m", score=score, group_score=group_score, **how)
    lines = said("top", "--query", "0", "--groups", "--use", TINY).stdout.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    of_7 = plan.spec.dataset.groups[plan.spec.dataset.membership[7][0]]
    assert rows[0][:4] == [plan.spec.dataset.groups[3], "+0.5", "0.125", "0.12"]
    assert rows[1][:2] == [of_7, "+0.25"]  # m_summed


def test_top_without_any_scores_says_so(plan):
    with pytest.raises(BegatError, match="no scores yet"):
        said("top", "--query", "0", "--use", TINY)


def test_results_of_changed_parameters_are_left_out_with_what_changed(plan):
    put_images_and_queries(plan)
    put_scores(plan, "scores_pixel", "pixel_rbf", score=np.ones((1, 4, 200)))
    put_scores(plan, "scores_trak", "trak", score=np.ones((1, 4, 200)))
    planned(plan.root, scores_trak__damping=2.0)
    found = said("top", "--query", "0", "--use", TINY)
    assert "trak (scores_trak.damping: 1.0 -> 2.0)" in found.stderr
    assert "pixel_rbf" in found.stdout
    with pytest.raises(BegatError, match="--method trak: expected one of pixel_rbf"):
        said("top", "--query", "0", "--method", "trak", "--use", TINY)


def test_status_says_whose_parameters_it_speaks_of(plan):
    assert said("status", "--use", TINY).stdout.startswith("params/tiny.yaml: 53 models\n")


def test_after_a_run_of_another_file_commands_say_that_they_speak_of_this_one(plan):
    assert said("status").stderr == ""
    Freshness(plan, main=True)
    hint = "begat: this is about params.yaml; the last run was of params/tiny.yaml (--use params"
    assert said("status").stderr.startswith(hint)
    assert said("status", "--use", TINY).stderr == ""


def test_reasons_are_printed_as_they_are(plan):
    put_images_and_queries(plan)
    planned(plan.root, queries__path="data/[/b]")
    assert "queries.path: data/queries -> data/[/b]" in said("status", "--use", TINY).stdout
