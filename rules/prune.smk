# Pruning methods on the spiral: one job for each study and method.
import json

from sparselimit.pruning.registry import Choice

CHOICES = {name: Choice.of(name, entry) for name, entry in study.prune.methods.items()}
PRUNED_RUNS = [
    f"results/prune/{name}/{method}.h5"
    for name in study.prune.studies
    for method in CHOICES
]


rule prune_spiral:
    input:
        script="steps/prune_spiral.py",
        library=lambda w: sources(
            "prune_spiral.py", f"sparselimit.pruning.{CHOICES[w.method].method}"
        ),
        data="results/data/spiral.h5",
        frontier=frontier_of_study,
        state_dict=state_dict_of_study,
    output:
        "results/prune/{study}/{method}.h5",
    log:
        "logs/prune_spiral/{study}-{method}.log",
    benchmark:
        "benchmarks/prune_spiral/{study}-{method}.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=growing(4000),
        runtime=enough(lambda w: cost.prune_spiral(study, w.study, CHOICES[w.method])),
    params:
        method=lambda w: flags(CHOICES[w.method], "method", "name", "count"),
        options=lambda w: json.dumps(CHOICES[w.method].options, sort_keys=True),
        study=lambda w: flags(study.prune.studies[w.study], "networks", "targets"),
        start=start_of_study,
        control=lambda w: "--control" if study.prune.studies[w.study].control else "",
        runs=lambda w: flags(
            study.prune.studies[w.study].trained_as(study.runs),
            "protocol",
            "epochs",
            "batch_size",
            "learning_rates",
            "schedules",
            "seeds",
        ),
    message:
        "prune by {wildcards.method} in the study {wildcards.study}"
    shell:
        "python {input.script} --data {input.data} {params.method} --options {params.options:q} "
        "{params.study} --fitting {params.start} {params.control} {params.runs} "
        "--device {resources.device} --output {output} > {log} 2>&1"
