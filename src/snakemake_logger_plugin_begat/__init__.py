"""What a run looks like in the terminal: one bar, an estimate of the time left, one line per error.

Snakemake finds this package by its name; the default profile asks for it (``logger: [begat]``).
How much there is to do is in the list of stale artifacts (``work``), how far a job has come in the
last percentage of its log.
"""

import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging import ERROR, WARNING, LogRecord
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_begat.reasons import reason
from snakemake_logger_plugin_begat.work import forecast, work_ahead

SKEW = 60  # seconds by which the clock of a file server may be behind


@dataclass
class Job:
    """A job that has been started."""

    name: str
    work: float
    log: Path | None
    started: float = field(default_factory=time.monotonic)
    began: float = field(default_factory=time.time)

    def written(self) -> Path | None:
        """Its log, if it has written one: not what an earlier run left there."""
        try:
            own = self.log is not None and self.log.stat().st_mtime > self.began - SKEW
        except OSError:
            return None
        return self.log if own else None

    def share_done(self) -> float:
        """How much of it is done, by the last percentage in its log."""
        try:
            with (self.written() or Path("/dev/null")).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(file.tell() - 400, 0))
                percentages = re.findall(rb"(\d+)%\|", file.read())
        except OSError:
            return 0.0
        return int(percentages[-1]) / 100 if percentages else 0.0


class Progress:
    """Jobs waiting, running and done, weighed by their work; knows no terminal."""

    def __init__(self, total: int, work: Mapping[str, float]) -> None:
        self.total, self.work = total, dict(work)
        self.running: dict[int, Job] = {}
        self.finished = 0
        self.work_finished = 0.0
        self.started = time.monotonic()

    def start(self, number: int, rule: str, outputs: list[str], logs: list[str]) -> Job:
        """A job begins."""
        mean = sum(self.work.values()) / max(len(self.work), 1)
        work = next((self.work[o] for o in outputs if o in self.work), mean)
        name = outputs[0].removeprefix("results/").removesuffix(".zarr") if outputs else rule
        self.running[number] = Job(name, work, Path(logs[0]) if logs else None)
        return self.running[number]

    def finish(self, number: int) -> Job | None:
        """A job is done."""
        job = self.running.pop(number, None)
        if job:
            self.finished += 1
            self.work_finished += job.work
        return job

    def share_done(self) -> float:
        """How much of all work is done."""
        whole = max(sum(self.work.values()), self.work_finished, 1.0)
        running = sum(job.work * job.share_done() for job in self.running.values())
        return min((self.work_finished + running) / whole, 1.0)

    def left(self) -> str:
        """The time left, in words, as far as the work done so far tells."""
        share, gone = self.share_done(), time.monotonic() - self.started
        if share < 0.02 or gone < 5:
            return "estimating the time left"
        seconds = gone * (1 - share) / share
        if seconds < 50:
            return f"about {max(round(seconds / 10), 1) * 10} s left"
        return f"about {max(round(seconds / 60), 1)} min left"


def told(record: LogRecord) -> str | None:
    """The one line of an error that is meant for a person, if it has one."""
    messages = re.findall(r"^(begat: .*)$", record.getMessage(), re.MULTILINE)
    return messages[-1] if messages else None


class LogHandler(LogHandlerBase):
    """Snakemake's messages as a person wants to see them."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Choose: Snakemake's own words for dry runs and when asked for more, else the bar."""
        settings = self.common_settings
        self.console = Console(stderr=True, highlight=False)
        self.progress: Progress | None = None
        self.live: Live | None = None
        self.errors = 0
        self.exits: list[str] = []  # how commands ended that failed
        self.listed: list[str] = []  # what a dry run would make
        self.plain: ColorizingTextHandler | None = None
        if settings.dryrun or settings.verbose or settings.printshellcmds:
            quiet = settings.quiet
            self.plain = ColorizingTextHandler(
                nocolor=settings.nocolor,
                stream=sys.stdout if settings.dryrun else sys.stderr,
                formatter=DefaultFormatter(quiet, settings.show_failed_logs),
                filter=DefaultFilter(
                    quiet,
                    settings.debug_dag,
                    settings.verbose,
                    settings.dryrun,
                    settings.printshellcmds,
                ),
            )

    def emit(self, record: LogRecord) -> None:
        """Show one message."""
        event = getattr(record, "event", None)
        if event == LogEvent.ERROR and (line := told(record)):
            self._say(Text(line, "red"))
        elif self.plain is not None:
            if self.plain.filter(record):
                self.plain.emit(record)
            if self.common_settings.dryrun:
                self._dry(record)
        elif event is None:
            self._unstructured(record)
        else:
            self._event(event, record.__dict__)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.live:
            self.live.stop()
            self.live = None
        super().close()

    def _say(self, message: Text | str) -> None:
        (self.live.console if self.live else self.console).print(message, soft_wrap=True)

    def _unstructured(self, record: LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("Nothing to be done"):
            self._say("Nothing to do: everything is up to date.")
        elif text.startswith("Exception in run_job"):
            pass  # the job's error says the same
        elif record.levelno >= WARNING and not self.errors and text.strip():
            self._say(Text(text.strip(), "red" if record.levelno >= ERROR else "yellow"))

    def _dry(self, record: LogRecord) -> None:
        """At the end of a dry run, say how much of it will not be computed."""
        outputs = getattr(record, "output", None) or []
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            self.listed.extend(map(str, outputs))
        elif record.getMessage().startswith("This was a dry-run") and (
            message := forecast(self.listed)
        ):
            self._say(message)

    def _event(self, event: LogEvent, fields: dict[str, Any]) -> None:
        match event:
            case LogEvent.RUN_INFO:
                self._begin(fields["stats"]["total"])
            case LogEvent.JOB_INFO if self.progress:
                names = (fields["output"] or [], fields["log"] or [])
                job = self.progress.start(fields["jobid"], fields["rule_name"], *map(list, names))
                if names[0] and not self.live:
                    self._say(f"{'start':>8} {job.name}")
            case LogEvent.JOB_FINISHED if self.progress:
                self._finished(fields["job_id"])
            case LogEvent.JOB_ERROR:
                self._failed(fields)
            case LogEvent.ERROR if fields.get("exception") == "RuleException":
                self.exits.append(str(fields["msg"]))
            case LogEvent.ERROR if not self.errors:
                self._say(Text(str(fields["msg"]).strip(), "red"))
            case _:
                pass

    def _failed(self, fields: dict[str, Any]) -> None:
        """Say why, in one line; the job's own log comes before the executor's."""
        self.errors += 1
        logs = [Path(str(log)) for log in fields["log"] if log]
        job = self.progress.running.pop(fields["jobid"], None) if self.progress else None
        own = job.written() if job else next(iter(logs), None)
        command = fields.get("shellcmd") or ""
        exits = next((text for text in self.exits if command and command in text), "")
        message = str(fields.get("rule_msg") or "")
        why = reason(message, exits, own, logs[1:])
        self._say(Text.assemble((f"{fields['rule_name']}: ", "bold red"), (why, "red")))

    def _begin(self, total: int) -> None:
        self.progress = Progress(total, work_ahead())
        if self.console.is_terminal:
            self.live = Live(get_renderable=self._view, console=self.console, refresh_per_second=2)
            self.live.start()

    def _finished(self, number: int) -> None:
        assert self.progress
        job = self.progress.finish(number)
        if job and not self.live:
            took = time.monotonic() - job.started
            done = f"[{self.progress.finished}/{self.progress.total}]"
            left = "" if self.progress.finished == self.progress.total else self.progress.left()
            self._say(f"{done:>8} {job.name:<32} {took:6.0f} s   {left}".rstrip())
        if self.live and self.progress.finished >= self.progress.total:
            self.close()

    def _view(self) -> Group:
        assert self.progress
        share = self.progress.share_done()
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=1, completed=share, width=40),
            f"{share:4.0%}",
            f"{self.progress.finished}/{self.progress.total} jobs",
            self.progress.left(),
        )
        jobs = Table.grid(padding=(0, 2))
        for job in list(self.progress.running.values()):
            done = job.share_done()
            jobs.add_row(
                "  " + job.name, ProgressBar(total=1, completed=done, width=20), f"{done:4.0%}"
            )
        return Group(head, jobs)
