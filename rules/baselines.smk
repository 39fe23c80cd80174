# Pruning methods on trained classifiers: one job for each network, method and share of densities;
# and one for each network with the limits predicted along the rounds of those that have some.
import json

BASELINE_METHODS = study.baselines.choices
# The densities of each job of a method.
BASELINE_PARTS = {
    name: choice.parts(study.baselines.densities, study.baselines.densities_per_job)
    for name, choice in BASELINE_METHODS.items()
}
BASELINE_RUNS = [
    f"results/baselines/{network}/{method}/part-{part:03d}-of-{len(parts):03d}.h5"
    for network in study.pruned_networks
    for method, parts in BASELINE_PARTS.items()
    for part in range(len(parts))
]
# What methods make in rounds, one network from the other.
CHAINED = [name for name, choice in BASELINE_METHODS.items() if choice.chained]
ROUND_LIMITS = [
    f"results/round_limits/{network}.h5"
    for network in study.pruned_networks
    if study.baselines.round_limits and CHAINED and "ggn" in study.spectrum.steps
]


rule prune_network:
    input:
        **NETWORK,
        script="steps/prune_network.py",
        library=lambda w: sources(
            "prune_network.py",
            f"sparselimit.pruning.classifiers.{BASELINE_METHODS[w.baseline].method}",
        ),
    output:
        "results/baselines/{network}/{baseline}/part-{part}-of-{parts}.h5",
    log:
        "logs/prune_network/{network}-{baseline}-{part}-of-{parts}.log",
    benchmark:
        "benchmarks/prune_network/{network}-{baseline}-{part}-of-{parts}.jsonl"
    wildcard_constraints:
        network=among(BASELINE_RUNS, "results/baselines/"),
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=roomy(8000),
        runtime=enough(
            lambda w: cost.prune_network(
                study,
                w.network,
                BASELINE_METHODS[w.baseline],
                BASELINE_PARTS[w.baseline][int(w.part)],
            )
        ),
    params:
        network=network_flags,
        method=lambda w: flags(BASELINE_METHODS[w.baseline], "method", "name"),
        options=lambda w: json.dumps(
            BASELINE_METHODS[w.baseline].options, sort_keys=True
        ),
        densities=lambda w: " ".join(map(str, BASELINE_PARTS[w.baseline][int(w.part)])),
        protocol=study.baselines.protocol,
        accuracy=flags(study.bounds, "accuracy_tolerance"),
        recipe=recipe_flags,
    message:
        "prune {wildcards.network} by {wildcards.baseline} ({wildcards.part} of {wildcards.parts})"
    shell:
        "python {input.script} {params.network} {params.method} --options {params.options:q} "
        "--densities {params.densities} --pruning-protocol {params.protocol} {params.accuracy} "
        "{params.recipe} --device {resources.device} --output {output} > {log} 2>&1"


rule round_limits:
    input:
        **NETWORK,
        script="steps/round_limits.py",
        library=sources("round_limits.py"),
        pruned=expand(
            "results/baselines/{{network}}/{baseline}/part-000-of-001.h5",
            baseline=CHAINED,
        ),
    output:
        "results/round_limits/{network}.h5",
    log:
        "logs/round_limits-{network}.log",
    benchmark:
        "benchmarks/round_limits-{network}.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=roomy(8000),
        runtime=enough(lambda w: cost.round_limits(study, w.network)),
    params:
        network=network_flags,
        lanczos=flags(study.spectrum, "split", "probes", "offsets", "seed", "precision"),
        steps=study.spectrum.steps.get("ggn"),
        batch_size=study.bounds.batch_size,
    message:
        "predict the pruning limits of {wildcards.network} round by round"
    shell:
        "python {input.script} {params.network} --pruned {input.pruned} "
        "--steps {params.steps} {params.lanczos} --batch-size {params.batch_size} "
        "--device {resources.device} --output {output} > {log} 2>&1"
