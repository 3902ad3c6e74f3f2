"""Make one artifact of a stage: ``python workflow/scripts/stage.py STAGE NAME``."""

from begat.planning.job import main

main()
