"""Why a job failed, in one line: from its log, its exit status and what a scheduler says of it."""

import re
from collections.abc import Sequence
from pathlib import Path
from signal import Signals

MEMORY = "out of memory; give it more mem_mb, or let it do less at a time"
TIME = "time limit reached; give it a longer runtime"
LOST = "its node failed or was lost; run again"
CANCELLED = "cancelled (scancel)"

STATES = {  # Slurm's names for the end of a job
    "OUT_OF_MEMORY": MEMORY,
    "TIMEOUT": TIME,
    "DEADLINE": "deadline reached before its end",
    "NODE_FAIL": LOST,
    "BOOT_FAIL": LOST,
    "PREEMPTED": "preempted by another job; run again",
    "CANCELLED": CANCELLED,
}
NOTES = {  # what Slurm writes into a job's output, the most particular first
    r"oom[-_]kill|Out Of Memory": MEMORY,
    r"DUE TO TIME LIMIT": TIME,
    r"DUE TO NODE FAILURE": LOST,
    r"DUE TO PREEMPTION": STATES["PREEMPTED"],
    r"\*\*\* (JOB|STEP) .* CANCELLED AT": CANCELLED,
}
BAR = re.compile(r"\d+%\||\d+it \[")


def reason(message: str, exits: str, own: Path | None, others: Sequence[Path] = ()) -> str:
    """Why a job failed, and the log that says more; an error meant for a person stands alone.

    Args:
        message: the executor's message about the job.
        exits: Snakemake's report of how the job's command ended.
        own: the job's log, None where the job wrote none.
        others: the executor's logs of the job.
    """
    last, noted = last_line(own), "\n".join(map(text_of, others))
    if refused := refusal(message):
        return refused
    if last.startswith("begat: "):
        return last
    if cause := by_scheduler(message, noted):
        return _see(cause, *others, own)
    if cause := by_signal(f"{exits}\n{noted}"):
        return _see(cause, own, *others)
    if last:
        return _see(last, own)
    return _see("ended without a message", own, *others)


def refusal(message: str) -> str:
    """The scheduler's words, where it did not take the job."""
    refusal = re.search(r"error message was '(.*?)'\.\n", message, re.DOTALL) or re.search(
        r"submission failed with exception: (?:.*error message was )?(.*)", message, re.DOTALL
    )
    lines = refusal[1].replace("sbatch: error: ", "").splitlines() if refusal else []
    if not lines:
        return ""
    return f"refused by the scheduler: {'; '.join(line.strip() for line in lines if line.strip())}"


def by_scheduler(message: str, noted: str) -> str:
    """What a scheduler's state and its notes in the job's output say, if anything."""
    for pattern, cause in NOTES.items():
        if re.search(pattern, noted):
            return cause
    state = re.search(r"SLURM status is: '(\w+)", message)
    return STATES.get(state[1], "") if state else ""


def by_signal(text: str) -> str:
    """The signal that ended a command, by Python's or the shell's report, if one did."""
    exit_status = re.search(r"died with <Signals\.\w+: (\d+)>|non-zero exit status (\d+)", text)
    number = int(exit_status[1] or int(exit_status[2]) - 128) if exit_status else 0
    if number not in set(Signals):
        return ""
    cause = f"killed by signal {number} ({Signals(number).name})"
    return (
        f"{cause}, as the system does when memory runs out" if number == Signals.SIGKILL else cause
    )


def last_line(log: Path | None) -> str:
    """The last line of a log that is no progress bar, empty where there is none."""
    lines = text_of(log).replace("\r", "\n").splitlines() if log else []
    return next((s for s in map(str.strip, reversed(lines)) if s and not BAR.search(s)), "")


def text_of(log: Path) -> str:
    """A log's text, empty where there is none."""
    try:
        return log.read_text(errors="replace")
    except OSError:
        return ""


def _see(cause: str, *logs: Path | None) -> str:
    there = next((log for log in logs if log and log.is_file()), None)
    return f"{cause} (see {there})" if there else cause
