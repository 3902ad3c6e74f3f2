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
    params:
        key=key("models"),
    log:
        "logs/models/{name}.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    shell:
        "{PYTHON} workflow/scripts/models.py {wildcards.name} --use {USE} --key {params.key} > {log} 2>&1"


rule queries:
    input:
        artifacts("queries"),


rule queries_block:
    input:
        marker("queries"),
        reads("queries"),
    output:
        directory("results/queries/{name}.zarr"),
    params:
        key=key("queries"),
    log:
        "logs/queries/{name}.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    shell:
        "{PYTHON} workflow/scripts/queries.py {wildcards.name} --use {USE} --key {params.key} > {log} 2>&1"
