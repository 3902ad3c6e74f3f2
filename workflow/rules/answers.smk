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
    params:
        key=key("measurements"),
    log:
        "logs/measurements/{name}.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    shell:
        "{PYTHON} workflow/scripts/measurements.py {wildcards.name} --use {USE} --key {params.key} > {log} 2>&1"


rule counterfactuals:
    input:
        artifacts("counterfactuals"),


rule counterfactuals_kind:
    input:
        marker("counterfactuals"),
        reads("counterfactuals"),
    output:
        directory("results/counterfactuals/{name}.zarr"),
    params:
        key=key("counterfactuals"),
    log:
        "logs/counterfactuals/{name}.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    shell:
        "{PYTHON} workflow/scripts/counterfactuals.py {wildcards.name} --use {USE} --key {params.key} > {log} 2>&1"


rule scores_ensemble:
    input:
        marker("scores_ensemble"),
        reads("scores_ensemble"),
    output:
        directory("results/scores/ensemble.zarr"),
    params:
        key=key("scores_ensemble"),
    log:
        "logs/scores/ensemble.log",
    shell:
        "{PYTHON} workflow/scripts/scores_ensemble.py all --use {USE} --key {params.key} > {log} 2>&1"


rule scores_pixel:
    input:
        marker("scores_pixel"),
        reads("scores_pixel"),
    output:
        directory("results/scores/pixel.zarr"),
    params:
        key=key("scores_pixel"),
    log:
        "logs/scores/pixel.log",
    shell:
        "{PYTHON} workflow/scripts/scores_pixel.py all --use {USE} --key {params.key} > {log} 2>&1"


rule scores_logo:
    input:
        marker("scores_logo"),
        reads("scores_logo"),
    output:
        directory("results/scores/logo.zarr"),
    params:
        key=key("scores_logo"),
    log:
        "logs/scores/logo.log",
    shell:
        "{PYTHON} workflow/scripts/scores_logo.py all --use {USE} --key {params.key} > {log} 2>&1"
