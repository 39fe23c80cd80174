# How sparse can a neural network be? Truth, algorithms and theory on one graph of jobs.
#
#   snakemake --cores all                                  the study of config.yaml
#   snakemake --cores 2 results/search/frontier.h5         one result and what it needs
#   snakemake --cores 2 --configfile studies/smoke.yaml    every stage in a few minutes
#   snakemake --report report.html                         the report, after a run
from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/prune.smk"
include: "rules/search.smk"
include: "rules/blocks.smk"
include: "rules/limits.smk"
include: "rules/baselines.smk"
include: "rules/report.smk"
include: "rules/overview.smk"
include: "rules/explorer.smk"
include: "rules/provenance.smk"
include: "rules/cost.smk"


localrules:
    all,
    prune,
    search,
    blocks,
    limits,
    baselines,
    cost,


rule all:
    default_target: True
    input:
        "results/overview.html",
        FIGURE_FILES,
        TABLE_FILES,
        EXPLORER,
        "results/provenance.csv",


# Stages by name: every result of one, without tables and figures.
rule prune:
    input:
        DENSE_RUNS,
        PRUNED_RUNS,


rule search:
    input:
        "results/search/frontier.h5",


rule blocks:
    input:
        BLOCK_RUNS,


rule limits:
    input:
        [f"results/bounds/{name}.h5" for name in study.networks],
        "results/spiral_limits.h5",
        "results/geometry.h5",


rule baselines:
    input:
        BASELINE_RUNS,
