# What the models say of the queries.


rule measurements:
    input:
        artifacts("measurements"),


rule measurements_kind:
    input:
        marker("measurements"),
        reads("measurements"),
    output:
        directory("results/measurements/{name}.zarr"),
    log:
        "logs/measurements/{name}.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("measurements"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule counterfactuals:
    input:
        artifacts("counterfactuals"),


rule counterfactuals_kind:
    input:
        marker("counterfactuals"),
        reads("counterfactuals"),
    output:
        directory("results/counterfactuals/{name}.zarr"),
    log:
        "logs/counterfactuals/{name}.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("counterfactuals"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"
