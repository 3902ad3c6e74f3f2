"""What a run says in the terminal, and what errors look like there."""

import logging
import time
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_begat import Job, LogHandler, Progress, last_line, told


@pytest.fixture
def handler():
    settings = SimpleNamespace(
        dryrun=False, verbose=False, printshellcmds=False, quiet=None, nocolor=True
    )
    return LogHandler(settings, None)


def say(handler, event=None, message="", level=logging.INFO, **fields):
    record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
    record.__dict__.update(fields, event=event)
    handler.emit(record)


def started(handler, number, output, log):
    say(
        handler,
        LogEvent.JOB_INFO,
        jobid=number,
        rule_name="models_pack",
        output=[output],
        log=[str(log)],
    )


def test_a_run_is_told_job_by_job_with_the_time_left(handler, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    say(handler, LogEvent.RUN_INFO, stats={"total": 2})
    started(handler, 1, "results/models/half-0.zarr", tmp_path / "log")
    say(handler, LogEvent.JOB_FINISHED, job_id=1)
    started(handler, 2, "results/report", tmp_path / "log")
    say(handler, LogEvent.JOB_FINISHED, job_id=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split()[:2] == ["[1/2]", "models/half-0"]
    assert lines[1].split()[:2] == ["[2/2]", "report"]


def test_the_time_left_follows_from_the_work_done(monkeypatch):
    progress = Progress(3, {"a": 100.0, "b": 300.0})
    monkeypatch.setattr(progress, "started", time.monotonic() - 100)
    progress.start(1, "rule", ["a"], [])
    progress.finish(1)
    assert progress.share_done() == pytest.approx(0.25)
    assert progress.left() == "about 5 min left"
    monkeypatch.setattr(progress, "started", time.monotonic())
    assert progress.left() == "estimating the time left"


def test_running_jobs_count_by_the_last_percentage_in_their_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("half-0:  10%|#   | 80/800\rhalf-0:  43%|####  | 340/800 [00:35<00:51]")
    assert Job("x", 1.0, log).share_done() == pytest.approx(0.43)
    assert Job("x", 1.0, tmp_path / "none").share_done() == 0
    assert Job("x", 1.0, None).share_done() == 0


def test_a_failed_job_is_one_line_with_its_own_last_words(handler, capsys, tmp_path):
    log = tmp_path / "log"
    log.write_text("50%|###  |\rbegat: data/images/a.png: damaged image; replace it\n")
    say(handler, LogEvent.JOB_ERROR, level=logging.ERROR, rule_name="images", log=[str(log)])
    say(handler, LogEvent.ERROR, "RuleException:\nlong", logging.ERROR, exception="RuleException")
    say(handler, None, "At least one job did not complete successfully.", logging.ERROR)
    said = capsys.readouterr().err
    assert said == "images: begat: data/images/a.png: damaged image; replace it\n"


def test_an_unexpected_failure_says_where_the_rest_is(tmp_path):
    log = tmp_path / "log"
    log.write_text("Traceback ...\nKeyError: 'x'\n")
    assert last_line(log) == f"KeyError: 'x' (see {log})"
    assert last_line(tmp_path / "none").startswith("failed without a word")


def test_an_error_in_the_parameters_is_its_own_line_only(handler, capsys):
    text = 'WorkflowError in file "common.smk", line 3:\nbegat: params.yaml: models.steps: no\n'
    say(handler, LogEvent.ERROR, text, logging.ERROR, exception="WorkflowError")
    assert capsys.readouterr().err == "begat: params.yaml: models.steps: no\n"


def test_only_lines_meant_for_a_person_are_told():
    record = logging.LogRecord("x", logging.ERROR, "", 0, "WorkflowError:\nsomething", (), None)
    assert told(record) is None


def test_nothing_to_do_is_said_so(handler, capsys):
    say(handler, None, "Nothing to be done (all requested files are present and up to date).")
    assert capsys.readouterr().err == "Nothing to do: everything is up to date.\n"
