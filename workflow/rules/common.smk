# What the rules share: which artifacts a job reads, whether what it made is current, where it runs.

import shlex
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.20")

from begat.errors import BegatError
from begat.execution.jobs import path_of
from begat.execution.machine import visible_gpus
from begat.planning.commitment import commit
from begat.planning.freshness import Freshness
from begat.planning.plan import Plan
from begat.storage.cache import only_run
from begat.planning.tidy import tidy
from begat.stages import STAGES

# Jobs and DVC read parameters from their file, so that one given here alone would change nothing.
if others := sorted(set(workflow.config_settings.overwrite_config) - {"params_file"}):
    raise WorkflowError(
        f"begat: --config: expected params_file=FILE alone, found {', '.join(others[:3])}"
        f"{', ...' if others[3:] else ''}; parameters are changed in that file, see params.yaml"
    )
if not isinstance(config.get("params_file", ""), str):
    raise WorkflowError(
        f"begat: params_file: expected the name of a file, found {config['params_file']!r}, as Snakemake read it; "
        "name the file otherwise, or use `begat run --params-file FILE`"
    )


def in_one_line(error):
    """What stops a run before its first job, as the terminal shows it."""
    if isinstance(error, OSError):
        error = f"{error.filename}: could not be written ({error.strerror})"
    return WorkflowError(f"begat: {error}")


try:
    plan = Plan(Path.cwd(), config.get("params_file"))
    freshness = Freshness(plan, main=workflow.is_main_process)
except (BegatError, OSError) as error:
    raise in_one_line(error) from None

THREADS = plan.params.compute.threads

# A job on a GPU holds one of them; where there is none, nothing is held.
GPUS = visible_gpus() if plan.params.compute.device != "cpu" else 0
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", GPUS)

# The C library of GNU is told to keep up to 1 GiB of freed memory: it would hand every large buffer
# back to the system and take fresh pages for the next (docs/benchmarks.md).
shell.prefix(
    "export OMP_NUM_THREADS={threads} OMP_WAIT_POLICY=PASSIVE MKL_NUM_THREADS={threads} "
    "MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 "
    "TQDM_MININTERVAL=1; ".format(threads=THREADS)
)


onstart:
    for word in (sys.executable, str(Path.cwd()), plan.params.params_file):
        if workflow.non_local_exec and shlex.quote(word) != word:
            raise WorkflowError(
                f"begat: {word}: expected a path of letters, digits and ._-/ only, as Snakemake "
                "hands it to the cluster's shell unquoted; name it otherwise, or run without --profile"
            )
    try:
        workflow.begat_lock = only_run(Path.cwd())
        tidy(plan)
        commit(plan)
    except (BegatError, OSError) as error:
        raise in_one_line(error) from None


def artifacts(stage):
    """Every artifact of a stage."""
    return [str(job.path) for job in plan.jobs(stage)]


def output(stage):
    """Where a stage's artifacts are, ``{name}`` in place of the name of one of many."""
    path = directory(str(path_of(stage, "{name}" if STAGES[stage].each else "all")))
    if stage == "report":
        return report(
            path, "../report/report.rst", category="Attribution", htmlindex="index.html"
        )
    return path


def log_file(stage):
    """Where its jobs write their log."""
    return f"logs/{stage}/{'{name}' if STAGES[stage].each else 'all'}.log"


def names(stage):
    """The wildcards' (stage, name) of one artifact's rule; ``stage`` is None for scores."""
    return lambda wildcards: (
        (stage, wildcards.get("name", "all"))
        if stage
        else (f"scores_{wildcards.method}", "all")
    )


def marker(stage):
    """An old file where the artifact carries the key it should, a new one where it does not."""
    return lambda wildcards: freshness.marker(*names(stage)(wildcards))


def reads(stage):
    """The artifacts that the job for one artifact reads."""
    return lambda wildcards: [
        str(plan.job(*name).path) for name in plan.job(*names(stage)(wildcards)).inputs
    ]


def command(stage):
    """The words of the command that makes an artifact under the key expected of it now."""

    def words(wildcards):
        job = plan.job(*names(stage)(wildcards))
        script = [sys.executable, "workflow/scripts/stage.py", job.stage, job.name]
        return [*script, "--params-file", plan.params.params_file, "--key", job.key]

    return words


def threads(stage):
    """CPU threads of a job: those of the parameters where it computes with models."""
    return THREADS if STAGES[stage].gpu else 1


def gpus(stage):
    """GPUs that a job holds."""
    return min(GPUS, 1) if STAGES[stage].gpu else 0
