# What the models say of the queries, and what follows for units.


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
        "{params.job} > {log} 2>&1"


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
        "{params.job} > {log} 2>&1"


rule scores_ensemble:
    input:
        marker("scores_ensemble"),
        reads("scores_ensemble"),
    output:
        directory("results/scores/ensemble.zarr"),
    log:
        "logs/scores/ensemble.log",
    params:
        job=job("scores_ensemble"),
    shell:
        "{params.job} > {log} 2>&1"


rule scores_pixel:
    input:
        marker("scores_pixel"),
        reads("scores_pixel"),
    output:
        directory("results/scores/pixel.zarr"),
    log:
        "logs/scores/pixel.log",
    params:
        job=job("scores_pixel"),
    shell:
        "{params.job} > {log} 2>&1"


rule scores_logo:
    input:
        marker("scores_logo"),
        reads("scores_logo"),
    output:
        directory("results/scores/logo.zarr"),
    log:
        "logs/scores/logo.log",
    params:
        job=job("scores_logo"),
    shell:
        "{params.job} > {log} 2>&1"
