# The data sets.
# Loaders of one's own, by the name of the file that their data go to.
LOADERS = {
    own.plain(network.data): network.data
    for network in study.networks.values()
    if own.is_own(network.data)
}


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
        mem_mb=growing(1000),
        runtime=growing(5),
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
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        split=flags(study.digits, "seed", "calibration", "validation", "test"),
    message:
        "make the digits data set"
    shell:
        "python {input.script} {params.split} --output {output} > {log} 2>&1"


rule data_images:
    input:
        script="steps/data_images.py",
        library=sources("data_images.py"),
    output:
        "results/data/{name}.h5",
    log:
        "logs/data_{name}.log",
    benchmark:
        "benchmarks/data_{name}.jsonl"
    wildcard_constraints:
        name="|".join(images.SOURCES),
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        folder=study.images.folder or "",
        download="--download" if study.images.download else "",
        split=flags(study.images, "seed", "calibration", "validation"),
    message:
        "read {wildcards.name}"
    shell:
        "python {input.script} --name {wildcards.name} --folder {params.folder:q} "
        "{params.download} {params.split} --output {output} > {log} 2>&1"


rule data_own:
    input:
        script="steps/data_own.py",
        library=sources("data_own.py"),
        code=lambda w: own.files_of(LOADERS[w.loader]),
    output:
        "results/data/own/{loader}.h5",
    log:
        "logs/data_own-{loader}.log",
    benchmark:
        "benchmarks/data_own-{loader}.jsonl"
    wildcard_constraints:
        loader=any_of(LOADERS),
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        loader=lambda w: LOADERS[w.loader],
    message:
        "read data by {params.loader}"
    shell:
        "python {input.script} --loader {params.loader:q} --output {output} > {log} 2>&1"
