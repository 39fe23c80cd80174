# Pruning methods on the spiral: one job for each method and width.
import json

PRUNED_RUNS = [
    f"results/prune/{method}-w{width}.h5"
    for method in study.prune.methods
    for width in study.prune.widths
    if targets_of(width)
]


rule prune_spiral:
    input:
        script="steps/prune_spiral.py",
        library=lambda w: sources("prune_spiral.py", f"sparselimit.pruning.{w.method}"),
        data="results/data/spiral.h5",
    output:
        "results/prune/{method}-w{width}.h5",
    log:
        "logs/prune_spiral/{method}-w{width}.log",
    benchmark:
        "benchmarks/prune_spiral/{method}-w{width}.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        mem_mb=2000,
        runtime=60,
    params:
        options=lambda w: json.dumps(study.prune.methods[w.method], sort_keys=True),
        targets=lambda w: targets_of(int(w.width)),
        runs=flags(
            study.runs,
            "protocol",
            "epochs",
            "batch_size",
            "learning_rates",
            "schedules",
            "seeds",
        ),
    message:
        "prune by {wildcards.method} at width {wildcards.width}"
    shell:
        "python {input.script} --data {input.data} --method {wildcards.method} "
        "--options {params.options:q} --width {wildcards.width} --targets {params.targets} "
        "{params.runs} --device {resources.device} --output {output} > {log} 2>&1"
