# Pruning methods on the spiral: one job for each study and method.
import json

from sparselimit.pruning.registry import Choice

PRUNED_RUNS = [
    f"results/prune/{name}/{method}.h5"
    for name in study.prune.studies
    for method in study.prune.methods
]


def method_flags(wildcards):
    """A method as its entry in the study describes it."""
    choice = Choice.of(wildcards.method, study.prune.methods[wildcards.method])
    options = shlex.quote(json.dumps(choice.options, sort_keys=True))
    return (
        f"--method {choice.method} --name {choice.name} --count {choice.count} "
        f"--options {options}"
    )


def prune_study_flags(wildcards):
    """Networks, targets and training settings of a study."""
    one = study.prune.studies[wildcards.study]
    words = [flags(one, "networks", "targets"), "--initial", shlex.quote(one.initial)]
    if one.accuracy is not None:
        words.append(flags(one, "accuracy"))
    if one.control:
        words.append("--control")
    for name in ("learning_rates", "schedules", "seeds"):
        words.append(flags(study.runs if getattr(one, name) is None else one, name))
    return " ".join(words)


def searched(wildcards):
    """The search, where a study takes widths or initial values from it."""
    one = study.prune.studies[wildcards.study]
    wanted = "searched" in [*one.networks, one.initial]
    return "results/search/frontier.h5" if wanted else []


rule prune_spiral:
    input:
        script="steps/prune_spiral.py",
        library=lambda w: sources(
            "prune_spiral.py",
            "sparselimit.pruning."
            + Choice.of(w.method, study.prune.methods[w.method]).method,
        ),
        data="results/data/spiral.h5",
        frontier=searched,
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
        mem_mb=4000,
        runtime=60,
    params:
        method=method_flags,
        study=prune_study_flags,
        frontier=lambda w, input: f"--frontier {input.frontier}"
        if input.frontier
        else "",
        common=flags(study.runs, "protocol", "epochs", "batch_size"),
    message:
        "prune by {wildcards.method} in the study {wildcards.study}"
    shell:
        "python {input.script} --data {input.data} {params.method} {params.study} --fitting "
        "{params.frontier} {params.common} --device {resources.device} --output {output} "
        "> {log} 2>&1"
