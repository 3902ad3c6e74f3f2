# The dataset, and who trains on what.


rule images:
    input:
        marker("images"),
    output:
        directory("results/images/all.zarr"),
    log:
        "logs/images/all.log",
    params:
        job=job("images"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule splits:
    input:
        marker("splits"),
        reads("splits"),
    output:
        directory("results/splits/all.zarr"),
    log:
        "logs/splits/all.log",
    params:
        job=job("splits"),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"
