# The explorer: one page in which networks can be looked at and changed.
from sparselimit.sources import ROOT

EXPLORER = "results/explorer.html"


rule explorer:
    input:
        script="steps/explorer.py",
        library=sources("explorer.py"),
        parts=sorted(
            str(part.relative_to(ROOT)) for part in ROOT.glob("report/explorer/*")
        ),
        networks=[
            "results/search/frontier.h5",
            *BEAMS,
            DENSE_RUNS,
            *PRUNED_RUNS,
        ],
    output:
        report(
            EXPLORER,
            caption="../report/explorer.rst",
            category=OVERVIEW,
            labels={"result": "Explore the networks"},
        ),
    log:
        "logs/explorer.log",
    benchmark:
        "benchmarks/explorer.jsonl"
    localrule: True
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    message:
        "make the explorer"
    shell:
        "python {input.script} {input.networks} --output {output} > {log} 2>&1"
