# Models, in packs; the images asked about; what models are looked into and made to forget.
# Priorities keep the longest chain (full model, its factors, influence) from being left for last.


rule models:
    input:
        artifacts("models"),


rule models_pack:
    input:
        marker("models"),
        reads("models"),
    output:
        directory("results/models/{name}.zarr"),
    log:
        "logs/models/{name}.log",
    priority: 1
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("models"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule queries:
    input:
        artifacts("queries"),


rule queries_block:
    input:
        marker("queries"),
        reads("queries"),
    output:
        directory("results/queries/{name}.zarr"),
    log:
        "logs/queries/{name}.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("queries"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule factors:
    input:
        artifacts("factors"),


rule factors_model:
    input:
        marker("factors"),
        reads("factors"),
    output:
        directory("results/factors/{name}.zarr"),
    log:
        "logs/factors/{name}.log",
    priority: 2
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("factors"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule unlearned:
    input:
        artifacts("unlearned"),


rule unlearned_pack:
    input:
        marker("unlearned"),
        reads("unlearned"),
    output:
        directory("results/unlearned/{name}.zarr"),
    log:
        "logs/unlearned/{name}.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("unlearned"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"
