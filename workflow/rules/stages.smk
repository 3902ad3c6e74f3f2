# A rule for every stage (src/begat/stages): where it makes many artifacts, <stage> is for all of
# them and <stage>_<each> for one; all scoring methods share one rule.

for stage in STAGES.values():
    if stage.name.startswith("scores_"):
        continue
    if stage.each:

        rule:
            name:
                stage.name
            input:
                artifacts(stage.name),

    rule:
        name:
            f"{stage.name}_{stage.each}" if stage.each else stage.name
        input:
            marker(stage.name),
            reads(stage.name),
        output:
            output(stage.name),
        log:
            log_file(stage.name),
        priority: stage.priority
        threads: threads(stage.name)
        resources:
            gpu=gpus(stage.name),
        params:
            job=command(stage.name),
        shell:
            "exec {params.job:q} > {log:q} 2>&1"


rule scores:
    input:
        marker(None),
        reads(None),
    output:
        directory("results/scores/{method}.zarr"),
    log:
        "logs/scores/{method}.log",
    priority: 2
    threads: lambda wildcards: threads(f"scores_{wildcards.method}")
    resources:
        gpu=lambda wildcards: gpus(f"scores_{wildcards.method}"),
    params:
        job=command(None),
    shell:
        "exec {params.job:q} > {log:q} 2>&1"


rule verify:
    # Whether everything here is what was written, under the key it should have: for use before
    # `dvc commit`, which records what is in place as the result of the present parameters.
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
            "--params-file",
            plan.params.params_file,
        ],
    shell:
        "{params.status:q} > {log:q} 2>&1"
