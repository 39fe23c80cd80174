# Theory: curvature of trained networks, the limit it predicts, what one-shot pruning reaches, and
# a check of the geometry itself.
NETWORK = {
    "data": lambda w: f"results/data/{study.networks[w.network].data}.h5",
    "network": "results/train/networks/{network}.h5",
}


rule sweep_network:
    message:
        "prune {wildcards.network} once, at many ratios"
    input:
        **NETWORK,
        script="steps/sweep_network.py",
        library=sources("sweep_network.py"),
    output:
        "results/sweep/{network}.h5",
    params:
        ratios=study.sweep.ratios,
    log:
        "logs/sweep_network-{network}.log",
    benchmark:
        "benchmarks/sweep_network-{network}.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "python {input.script} --data {input.data} --network {input.network} "
        "--ratios {params.ratios} --device {study.device} --output {output} > {log} 2>&1"


rule spectrum:
    message:
        "spectrum of {wildcards.network} ({wildcards.operator})"
    input:
        **NETWORK,
        script="steps/spectrum.py",
        library=sources("spectrum.py"),
    output:
        "results/spectrum/{network}-{operator}.h5",
    wildcard_constraints:
        operator="hessian|ggn",
    params:
        lanczos=flags(study.spectrum, "split", "probes", "seed"),
        steps=lambda w: study.spectrum.steps[w.operator],
        batch_size=study.bounds.batch_size,
    log:
        "logs/spectrum-{network}-{operator}.log",
    benchmark:
        "benchmarks/spectrum-{network}-{operator}.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=8000,
        runtime=120,
    shell:
        "python {input.script} --data {input.data} --network {input.network} "
        "--operator {wildcards.operator} --steps {params.steps} {params.lanczos} "
        "--batch-size {params.batch_size} --device {study.device} --output {output} > {log} 2>&1"


rule bounds:
    message:
        "predict the pruning limit of {wildcards.network}"
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
    params:
        tolerances=study.bounds.tolerances,
    log:
        "logs/bounds-{network}.log",
    benchmark:
        "benchmarks/bounds-{network}.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "python {input.script} --network {input.network} --spectra {input.spectra} "
        "--sweep {input.sweep} --tolerances {params.tolerances} --output {output} > {log} 2>&1"


rule geometry:
    message:
        "check the width formulas by Monte Carlo"
    input:
        script="steps/geometry.py",
        library=sources("geometry.py"),
    output:
        "results/geometry.h5",
    params:
        check=flags(study.geometry, "dimension", "trials", "seed"),
    log:
        "logs/geometry.log",
    benchmark:
        "benchmarks/geometry.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "python {input.script} {params.check} --output {output} > {log} 2>&1"
