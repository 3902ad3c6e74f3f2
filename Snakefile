# Which training images begat this one?
#
#   snakemake --cores all             everything, up to results/report/index.html
#   snakemake --cores all models      one stage and what it needs
#   snakemake -n                      what there is to do, and nothing if all is current
#   snakemake --config params_file=params/tiny.yaml --cores all      another parameter file
#
# What is up to date is decided by keys (src/begat/planning/plan.py), not by file times.


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        artifacts("report"),


include: "workflow/rules/stages.smk"
