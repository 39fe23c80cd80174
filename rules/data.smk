# The data sets.
rule data_spiral:
    input:
        script="steps/data_spiral.py",
        library=sources("data_spiral.py"),
    output:
        "results/data/spiral.h5",
    log:
        "logs/data_spiral.log",
    benchmark:
        "benchmarks/data_spiral.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    message:
        "make the Cubist Spiral"
    shell:
        "python {input.script} --output {output} > {log} 2>&1"


rule data_digits:
    input:
        script="steps/data_digits.py",
        library=sources("data_digits.py"),
    output:
        "results/data/digits.h5",
    log:
        "logs/data_digits.log",
    benchmark:
        "benchmarks/data_digits.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        split=flags(study.digits, "seed", "calibration", "validation", "test"),
    message:
        "make the digits data set"
    shell:
        "python {input.script} {params.split} --output {output} > {log} 2>&1"


rule data_cifar:
    input:
        script="steps/data_cifar.py",
        library=sources("data_cifar.py"),
    output:
        "results/data/{name}.h5",
    log:
        "logs/data_{name}.log",
    benchmark:
        "benchmarks/data_{name}.jsonl"
    wildcard_constraints:
        name="cifar10|cifar100",
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        folder=study.cifar.folder or "",
        download="--download" if study.cifar.download else "",
        split=flags(study.cifar, "seed", "calibration", "validation"),
    message:
        "read {wildcards.name}"
    shell:
        "python {input.script} --name {wildcards.name} --folder {params.folder:q} "
        "{params.download} {params.split} --output {output} > {log} 2>&1"
