# Theory: curvature of trained networks, the limit it predicts, what one-shot pruning reaches, and
# a check of the geometry itself.
from sparselimit.figures.registry import MODULES

NETWORK = {
    "data": data_of,
    "network": "results/train/networks/{network}.h5",
    "code": code_of,
}


rule sweep_network:
    input:
        **NETWORK,
        script="steps/sweep_network.py",
        library=sources("sweep_network.py"),
    output:
        "results/sweep/{network}.h5",
    log:
        "logs/sweep_network-{network}.log",
    benchmark:
        "benchmarks/sweep_network-{network}.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=roomy(4000),
        runtime=enough(lambda w: cost.sweep_network(study, w.network)),
    params:
        network=network_flags,
        sweep=flags(study.sweep, "ratios", "exact"),
        split=flags(study.spectrum, "split"),
    message:
        "prune {wildcards.network} once, at many ratios"
    shell:
        "python {input.script} {params.network} {params.sweep} {params.split} "
        "--device {resources.device} --output {output} > {log} 2>&1"


rule spectrum:
    input:
        **NETWORK,
        script="steps/spectrum.py",
        library=sources("spectrum.py"),
    output:
        "results/spectrum/{network}-{operator}.h5",
    log:
        "logs/spectrum-{network}-{operator}.log",
    benchmark:
        "benchmarks/spectrum-{network}-{operator}.jsonl"
    wildcard_constraints:
        operator=any_of(study.spectrum.steps),
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=roomy(8000),
        runtime=enough(lambda w: cost.spectrum(study, w.network, w.operator)),
    params:
        network=network_flags,
        lanczos=flags(study.spectrum, "split", "probes", "seed", "precision"),
        steps=lambda w: study.spectrum.steps[w.operator],
        offsets=lambda w: study.spectrum.offsets if w.operator == "ggn" else 0,
        batch_size=study.bounds.batch_size,
    message:
        "spectrum of {wildcards.network} ({wildcards.operator})"
    shell:
        "python {input.script} {params.network} "
        "--operator {wildcards.operator} --steps {params.steps} {params.lanczos} "
        "--offsets {params.offsets} "
        "--batch-size {params.batch_size} --device {resources.device} --output {output} > {log} 2>&1"


rule bounds:
    input:
        script="steps/bounds.py",
        library=sources("bounds.py"),
        network="results/train/networks/{network}.h5",
        sweep="results/sweep/{network}.h5",
        spectra=expand(
            "results/spectrum/{{network}}-{operator}.h5", operator=study.spectrum.steps
        ),
    output:
        "results/bounds/{network}.h5",
    log:
        "logs/bounds-{network}.log",
    benchmark:
        "benchmarks/bounds-{network}.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        tolerances=flags(study.bounds, "tolerances", "accuracy_tolerance"),
        curves=flags(study.bounds, "epsilon_range", "epsilon_points", "scales"),
    message:
        "predict the pruning limit of {wildcards.network}"
    shell:
        "python {input.script} --network {input.network} --spectra {input.spectra} "
        "--sweep {input.sweep} {params.tolerances} {params.curves} --output {output} > {log} 2>&1"


# One network by itself, for whom that is the question; the report has all of them side by side.
rule network_page:
    input:
        script="steps/network_page.py",
        library=sources(
            "network_page.py",
            *(MODULES[name] for name in ("limits", "sensitivity", "weights")),
        ),
        network="results/train/networks/{network}.h5",
        sweep="results/sweep/{network}.h5",
        bounds="results/bounds/{network}.h5",
        spectra=expand(
            "results/spectrum/{{network}}-{operator}.h5", operator=study.spectrum.steps
        ),
    output:
        "results/limits/{network}/report.html",
    log:
        "logs/network_page-{network}.log",
    benchmark:
        "benchmarks/network_page-{network}.jsonl"
    localrule: True
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    message:
        "how far {wildcards.network} can be pruned"
    shell:
        "python {input.script} --name {wildcards.network} {input.network} {input.sweep} "
        "{input.bounds} {input.spectra} --output {output} > {log} 2>&1"


rule spiral_limits:
    input:
        script="steps/spiral_limits.py",
        library=sources("spiral_limits.py"),
        data="results/data/spiral.h5",
        networks=DENSE_RUNS,
        frontier="results/search/frontier.h5",
        beam="results/search/beam.h5",
    output:
        "results/spiral_limits.h5",
    log:
        "logs/spiral_limits.log",
    benchmark:
        "benchmarks/spiral_limits.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=enough(lambda w: cost.spiral_limits(study)),
    params:
        limits=flags(
            study.spiral_limits,
            "budget",
            "seeds",
            "most_parameters",
            "points",
            "weight_decay",
            "iterations",
        ),
    message:
        "predict limits on the spiral, where the truth is known"
    shell:
        "python {input.script} --networks {input.networks} --frontier {input.frontier} "
        "--beam {input.beam} --data {input.data} {params.limits} --device cpu --output {output} "
        "> {log} 2>&1"


rule geometry:
    input:
        script="steps/geometry.py",
        library=sources("geometry.py"),
    output:
        "results/geometry.h5",
    log:
        "logs/geometry.log",
    benchmark:
        "benchmarks/geometry.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=enough(lambda w: cost.geometry(study)),
    params:
        check=flags(study.geometry, "dimension", "trials", "seed"),
    message:
        "check the width formulas by Monte Carlo"
    shell:
        "python {input.script} {params.check} --output {output} > {log} 2>&1"
