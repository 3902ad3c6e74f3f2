# All methods in one table, held against retraining, and shown to a person.


rule aggregated:
    input:
        marker("aggregated"),
        reads("aggregated"),
    output:
        directory("results/aggregated/all.zarr"),
    log:
        "logs/aggregated/all.log",
    params:
        job=job("aggregated"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule metrics:
    input:
        marker("metrics"),
        reads("metrics"),
    output:
        directory("results/metrics/all.zarr"),
    log:
        "logs/metrics/all.log",
    params:
        job=job("metrics"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule report:
    input:
        marker("report"),
        reads("report"),
    output:
        directory("results/report"),
    log:
        "logs/report/all.log",
    params:
        job=job("report"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule verify:
    # Whether everything here is what was written, under the key it should have: to be asked before
    # `dvc commit`, which records whatever lies in place as the result of the present parameters.
    input:
        artifacts("report"),
    log:
        "logs/verify.log",
    params:
        status=[
            sys.executable,
            "-m",
            "begat.cli",
            "status",
            "--strict",
            "--use",
            plan.params["use"],
        ],
    shell:
        "{params.status:q} > {log:q} 2>&1"
