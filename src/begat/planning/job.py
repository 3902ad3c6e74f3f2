"""One job from the command line: ``workflow/scripts/stage.py STAGE NAME``."""

import argparse
import sys
from pathlib import Path

from begat.errors import BegatError
from begat.execution.context import CHANGED, JobContext
from begat.planning.plan import Plan
from begat.stages import STAGES


def main() -> None:
    """Do the job that the command line names; errors that a user can correct take one line."""
    parser = argparse.ArgumentParser(description="Make one artifact.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("name", help="the artifact's name, as in results/<stage>/<name>.zarr")
    parser.add_argument("--params-file", help="parameter file, if not the one params.yaml names")
    parser.add_argument("--key", help="the key the artifact must get, if known")
    arguments = parser.parse_args()
    try:
        plan, stage = Plan(Path.cwd(), arguments.params_file), STAGES[arguments.stage]
        job = plan.job(stage.name, arguments.name)
        if arguments.key not in (None, job.key):
            raise BegatError(f"{job.path}: {CHANGED}")
        stage.run(JobContext(plan, job, stage.methods))
    except BegatError as error:
        sys.exit(f"begat: {error}")
