# Scores of units, one rule per method.


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
        "exec {params.job:q} > {log:q} 2>&1"


rule scores_influence:
    input:
        marker("scores_influence"),
        reads("scores_influence"),
    output:
        directory("results/scores/influence.zarr"),
    log:
        "logs/scores/influence.log",
    priority: 2
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("scores_influence"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule scores_trak:
    input:
        marker("scores_trak"),
        reads("scores_trak"),
    output:
        directory("results/scores/trak.zarr"),
    log:
        "logs/scores/trak.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("scores_trak"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule scores_tracin:
    input:
        marker("scores_tracin"),
        reads("scores_tracin"),
    output:
        directory("results/scores/tracin.zarr"),
    log:
        "logs/scores/tracin.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("scores_tracin"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule scores_features:
    input:
        marker("scores_features"),
        reads("scores_features"),
    output:
        directory("results/scores/features.zarr"),
    log:
        "logs/scores/features.log",
    threads: plan.params["compute"]["threads"]
    resources:
        gpu=min(GPUS, 1),
    params:
        job=job("scores_features"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


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
        "exec {params.job:q} > {log:q} 2>&1"


rule scores_guda:
    input:
        marker("scores_guda"),
        reads("scores_guda"),
    output:
        directory("results/scores/guda.zarr"),
    log:
        "logs/scores/guda.log",
    params:
        job=job("scores_guda"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


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
        "exec {params.job:q} > {log:q} 2>&1"
