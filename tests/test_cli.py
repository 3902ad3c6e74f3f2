"""The command line, with complete and with incomplete results."""

import importlib.metadata

import numpy as np
import pytest
from plans import copied, planned
from put import put_images_and_queries, put_scores
from rich.console import Console
from typer.testing import CliRunner

from begat import cli
from begat.errors import BegatError
from begat.execution.contents import Contents
from begat.planning.freshness import Freshness
from begat.stages import STAGES

TINY = "params/tiny.yaml"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    plan = planned(copied(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "console", Console(width=200))
    monkeypatch.setattr(Contents, "read_by", lambda self, job: {})  # as if no result read another
    return plan


def begat(*command):
    """The outcome of a command."""
    result = CliRunner().invoke(cli.commands, list(command))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_version_is_printed():
    assert begat("--version").stdout == f"begat {importlib.metadata.version('begat')}\n"


def test_an_unknown_stage_is_refused_with_all_stages(plan):
    with pytest.raises(BegatError, match=f"^nosuch: expected a stage: {', '.join(STAGES)}$"):
        begat("run", "models", "nosuch")


def test_top_of_images_needs_the_scores_of_one_method_only(plan):
    put_images_and_queries(plan)
    score = np.zeros((1, 4, 200), np.float32)
    score[0, 1, 7] = 0.5
    put_scores(plan, "scores_pixel", "pixel_rbf", score=score)
    result = begat("top", "--query", "1", "--params-file", TINY)
    assert "query 1: [/b].png (dogs)" in result.stdout
    assert f"{plan.spec.dataset.names[7]} (" in result.stdout
    [line] = result.stderr.splitlines()
    assert line.startswith("begat: not up to date, see `begat run`: ensemble (missing), ")
    assert "pixel" not in line


def test_top_of_groups_does_not_need_the_aggregated_table_and_shows_p_values(plan):
    put_images_and_queries(plan)
    score, group_score = np.zeros((1, 4, 200)), np.zeros((1, 4, 10))
    score[0, 0, 7], group_score[0, 0, 3] = 0.25, 0.5
    how = dict(group_uncertainty=group_score, group_p_value=np.full((1, 4, 10), 0.125))
    put_scores(plan, "scores_ensemble", "m", score=score, group_score=group_score, **how)
    lines = begat("top", "--query", "0", "--groups", "--params-file", TINY).stdout.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    of_7 = plan.spec.dataset.groups[plan.spec.dataset.membership[7][0]]
    assert rows[0][:4] == [plan.spec.dataset.groups[3], "+0.5", "0.125", "0.12"]
    assert rows[1][:2] == [of_7, "+0.25"]  # m_summed


def test_top_without_any_scores_says_so(plan):
    with pytest.raises(BegatError, match="no scores yet"):
        begat("top", "--query", "0", "--params-file", TINY)


def test_results_of_changed_parameters_are_left_out_with_what_changed(plan):
    put_images_and_queries(plan)
    put_scores(plan, "scores_pixel", "pixel_rbf", score=np.ones((1, 4, 200)))
    put_scores(plan, "scores_trak", "trak", score=np.ones((1, 4, 200)))
    planned(plan.root, scores_trak__damping=2.0)
    result = begat("top", "--query", "0", "--params-file", TINY)
    assert "trak (scores_trak.damping: 1.0 -> 2.0)" in result.stderr
    assert "pixel_rbf" in result.stdout
    with pytest.raises(BegatError, match="--method trak: expected one of pixel_rbf"):
        begat("top", "--query", "0", "--method", "trak", "--params-file", TINY)


def test_status_names_its_parameter_file(plan):
    assert begat("status", "--params-file", TINY).stdout.startswith("params/tiny.yaml: 53 models\n")


def test_after_a_run_with_another_parameter_file_commands_print_a_hint(plan):
    assert begat("status").stderr == ""
    Freshness(plan, main=True)
    hint = (
        "begat: this is about params.yaml; the last run used params/tiny.yaml (--params-file params"
    )
    assert begat("status").stderr.startswith(hint)
    assert begat("status", "--params-file", TINY).stderr == ""


def test_reasons_are_printed_as_they_are(plan):
    put_images_and_queries(plan)
    planned(plan.root, queries__path="data/[/b]")
    assert (
        "queries.path: data/queries -> data/[/b]" in begat("status", "--params-file", TINY).stdout
    )
