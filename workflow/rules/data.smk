# The dataset, and who trains on what.


rule images:
    input:
        marker("images"),
    output:
        directory("results/images/all.zarr"),
    params:
        key=key("images"),
    log:
        "logs/images/all.log",
    shell:
        "{PYTHON} workflow/scripts/images.py all --use {USE} --key {params.key} > {log} 2>&1"


rule splits:
    input:
        marker("splits"),
        reads("splits"),
    output:
        directory("results/splits/all.zarr"),
    params:
        key=key("splits"),
    log:
        "logs/splits/all.log",
    shell:
        "{PYTHON} workflow/scripts/splits.py all --use {USE} --key {params.key} > {log} 2>&1"
