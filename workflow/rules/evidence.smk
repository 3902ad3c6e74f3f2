# All methods in one table, held against retraining, and shown to a person.


rule aggregated:
    input:
        marker("aggregated"),
        reads("aggregated"),
    output:
        directory("results/aggregated/all.zarr"),
    params:
        key=key("aggregated"),
    log:
        "logs/aggregated/all.log",
    shell:
        "{PYTHON} workflow/scripts/aggregated.py all --use {USE} --key {params.key} > {log} 2>&1"


rule metrics:
    input:
        marker("metrics"),
        reads("metrics"),
    output:
        directory("results/metrics/all.zarr"),
        "results/metrics.json",
    params:
        key=key("metrics"),
    log:
        "logs/metrics/all.log",
    shell:
        "{PYTHON} workflow/scripts/metrics.py all --use {USE} --key {params.key} > {log} 2>&1"


rule report:
    input:
        marker("report"),
        reads("report"),
    output:
        directory("results/report"),
    params:
        key=key("report"),
    log:
        "logs/report/all.log",
    shell:
        "{PYTHON} workflow/scripts/report.py all --use {USE} --key {params.key} > {log} 2>&1"


rule verify:
    # Whether everything here carries the key it should: to be asked before `dvc commit`, which
    # records whatever lies in place as the result of the present parameters.
    input:
        artifacts("report"),
    shell:
        "{PYTHON} -m begat.cli status --strict --use {USE}"
