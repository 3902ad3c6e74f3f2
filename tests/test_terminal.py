"""What a run says in the terminal, and what errors look like there."""

import json
import logging
import os
import time
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_begat import SKEW, Job, LogHandler, Progress, told
from snakemake_logger_plugin_begat.work import STALE


def settings(dryrun=False):
    """What Snakemake was asked to print."""
    more = dict.fromkeys(("verbose", "printshellcmds", "show_failed_logs", "debug_dag"), False)
    return SimpleNamespace(dryrun=dryrun, quiet=None, nocolor=True, **more)


@pytest.fixture
def handler():
    return LogHandler(settings(), None)


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
    assert [line.split()[:2] for line in lines] == [
        ["start", "models/half-0"],
        ["[1/2]", "models/half-0"],
        ["start", "report"],
        ["[2/2]", "report"],
    ]


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
    say(
        handler,
        LogEvent.JOB_ERROR,
        level=logging.ERROR,
        rule_name="images",
        log=[str(log)],
        jobid=1,
    )
    say(handler, LogEvent.ERROR, "RuleException:\nlong", logging.ERROR, exception="RuleException")
    say(handler, None, "At least one job did not complete successfully.", logging.ERROR)
    said = capsys.readouterr().err
    assert said == "images: begat: data/images/a.png: damaged image; replace it\n"


def failed(handler, capsys, log, message=None, command="python train.py", others=(), exits=None):
    """What is said of a job that failed."""
    if exits:
        text = f"RuleException:\nCommand 'set -e; {command}' {exits}."
        say(handler, LogEvent.ERROR, text, logging.ERROR, exception="RuleException")
    fields = {"rule_name": "models_pack", "rule_msg": message, "shellcmd": command, "jobid": 1}
    logs = [str(log), *map(str, others)]
    say(handler, LogEvent.JOB_ERROR, level=logging.ERROR, log=logs, **fields)
    return capsys.readouterr().err.removeprefix("models_pack: ").removesuffix("\n")


def test_an_unexpected_failure_is_its_last_line_and_where_the_rest_is(handler, capsys, tmp_path):
    log = tmp_path / "log"
    log.write_text("Traceback ...\nKeyError: 'x'\n")
    assert failed(handler, capsys, log) == f"KeyError: 'x' (see {log})"


@pytest.mark.parametrize(
    ("exits", "reason"),
    [
        ("returned non-zero exit status 137", "signal 9 (SIGKILL), as the system does when memory"),
        ("died with <Signals.SIGKILL: 9>", "signal 9 (SIGKILL), as the system does when memory"),
        ("returned non-zero exit status 143", "signal 15 (SIGTERM) (see"),
        ("died with <Signals.SIGSEGV: 11>", "signal 11 (SIGSEGV) (see"),
    ],
)
def test_a_killed_job_names_the_signal_and_no_progress_bar(
    handler, capsys, tmp_path, exits, reason
):
    log = tmp_path / "log"
    log.write_text("full-0:  20%|## | 160/800 [00:35<02:51]\rfull-0:  21%|## | 168/800 [00:36<")
    said = failed(handler, capsys, log, exits=exits)
    assert said.startswith(f"killed by {reason}")
    assert said.endswith(f"(see {log})")


def test_of_two_jobs_that_fail_each_has_its_own_signal(handler, capsys, tmp_path):
    other = "RuleException:\nCommand 'set -e; python other.py' died with <Signals.SIGABRT: 6>."
    say(handler, LogEvent.ERROR, other, logging.ERROR, exception="RuleException")
    said = failed(handler, capsys, tmp_path / "none", exits="died with <Signals.SIGBUS: 7>")
    assert said == "killed by signal 7 (SIGBUS)"


def test_a_bar_and_nothing_else_is_no_error_message(handler, capsys, tmp_path):
    log = tmp_path / "log"
    log.write_text("full-0:  20%|## | 160/800 [00:35<02:51]\r")
    said = failed(handler, capsys, log, exits="returned non-zero exit status 1")
    assert said == f"ended without a message (see {log})"


REFUSED = (
    "SLURM sbatch failed. The error message was 'sbatch: error: Memory specification can not be "
    "satisfied\nsbatch: error: Batch job submission failed: Requested node configuration is not "
    "available'.\n    sbatch call:\n        sbatch --parsable\n"
)
ENDED = "SLURM-job '12' failed, SLURM status is: '{}'. Detailed failure reason unavailable."


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            REFUSED,
            "refused by the scheduler: Memory specification can not be satisfied; Batch job "
            "submission failed: Requested node configuration is not available",
        ),
        (
            "Job submission failed with exception: SLURM job submission failed. The error message "
            "was sbatch: error: invalid partition specified: main",
            "refused by the scheduler: invalid partition specified: main",
        ),
        (ENDED.format("OUT_OF_MEMORY"), "out of memory; give it more mem_mb"),
        (ENDED.format("TIMEOUT"), "time limit reached"),
        (ENDED.format("NODE_FAIL"), "its node failed or was lost"),
        (ENDED.format("CANCELLED by 0"), "cancelled (scancel)"),
    ],
)
def test_what_the_scheduler_says_of_a_job_that_wrote_nothing(
    handler, capsys, tmp_path, message, reason
):
    said = failed(handler, capsys, tmp_path / "none", message, others=[tmp_path / "none either"])
    assert said.startswith(reason)
    assert "(see" not in said


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=12.batch.", "out of memory"),
        ("slurmstepd: error: Detected 1 oom-kill event(s) in step 12.batch", "out of memory"),
        ("slurmstepd: *** JOB 12 ON n1 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***", "time"),
        ("slurmstepd: *** JOB 12 ON n1 CANCELLED AT 2026-01-01 DUE TO NODE FAILURE", "its node"),
        ("slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-01-01 ***", "cancelled"),
        (
            "models_pack: killed by signal 9\nreturned non-zero exit status 137",
            "killed by signal 9",
        ),
    ],
)
def test_the_schedulers_note_comes_before_the_jobs_progress_bar(
    handler, capsys, tmp_path, note, reason
):
    own, other = tmp_path / "log", tmp_path / "12.log"
    own.write_text("full-0:  20%|## | 160/800 [00:35<02:51]\r")
    other.write_text(f"Building DAG of jobs...\n{note}\n")
    said = failed(handler, capsys, own, ENDED.format("FAILED"), others=[other, None])
    assert said.startswith(reason)
    assert said.endswith((f"(see {other})", f"(see {own})"))


def test_what_an_earlier_run_left_in_the_log_is_not_this_jobs_error(handler, capsys, tmp_path):
    log = tmp_path / "log"
    log.write_text("50%|## |\nbegat: models.max_train_steps: an old message\n")
    os.utime(log, (0, time.time() - 2 * SKEW))
    say(handler, LogEvent.RUN_INFO, stats={"total": 2})
    started(handler, 1, "results/models/full-0.zarr", log)
    assert handler.progress.running[1].share_done() == 0
    capsys.readouterr()
    said = failed(handler, capsys, log, ENDED.format("CANCELLED"))
    assert said == "cancelled (scancel)"
    assert not handler.progress.running


def test_an_error_in_the_parameters_is_its_own_line_only(handler, capsys):
    line = "begat: params.yaml: models.max_train_steps: no\n"
    text = f'WorkflowError in file "common.smk", line 3:\n{line}'
    say(handler, LogEvent.ERROR, text, logging.ERROR, exception="WorkflowError")
    assert capsys.readouterr().err == line


def test_only_lines_meant_for_a_person_are_told():
    record = logging.LogRecord("x", logging.ERROR, "", 0, "WorkflowError:\nsomething", (), None)
    assert told(record) is None


def test_a_dry_run_says_how_much_the_store_has(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    STALE.parent.mkdir(parents=True)
    paths = [f"results/{name}.zarr" for name in "abc"]
    STALE.write_text(json.dumps({"work": dict(zip(paths, (0, 7, 0), strict=True))}))
    dry = LogHandler(settings(dryrun=True), None)
    monkeypatch.setattr(dry.plain, "emit", lambda record: None)
    for output in paths[:2]:
        say(dry, LogEvent.JOB_INFO, output=[output])
    say(dry, None, "This was a dry-run (flag -n).")
    assert capsys.readouterr().err.splitlines() == [
        "1 of these results will be taken from the store.",
        "1 of these results will be computed; `begat plan` says how long it takes.",
    ]


def test_nothing_to_do_is_said_so(handler, capsys):
    say(handler, None, "Nothing to be done (all requested files are present and up to date).")
    assert capsys.readouterr().err == "Nothing to do: everything is up to date.\n"
