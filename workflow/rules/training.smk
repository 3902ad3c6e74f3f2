# Models, in packs; and the images asked about.


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
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("models"),
    shell:
        "{params.job} > {log} 2>&1"


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
        "{params.job} > {log} 2>&1"
