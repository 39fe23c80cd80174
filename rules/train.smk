# Dense networks: ensembles on the spiral, classifiers whose pruning limit is studied.
DENSE_RUNS = "results/train/spiral.h5"


rule train_spiral:
    input:
        script="steps/train_spiral.py",
        library=sources("train_spiral.py"),
        data="results/data/spiral.h5",
    output:
        "results/train/spiral.h5",
    log:
        "logs/train_spiral.log",
    benchmark:
        "benchmarks/train_spiral.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=growing(2000),
        runtime=enough(lambda w: cost.train_spiral(study)),
    params:
        networks=flags(study.train, "widths", "counts"),
        runs=flags(
            study.runs, "epochs", "batch_size", "learning_rates", "schedules", "seeds"
        ),
    message:
        "train dense networks"
    shell:
        "python {input.script} --data {input.data} {params.networks} {params.runs} "
        "--device {resources.device} --output {output} > {log} 2>&1"


rule train_network:
    input:
        script="steps/train_network.py",
        library=sources("train_network.py"),
        data=data_of,
        code=code_of,
        state_dict=lambda w: study.networks[w.network].state_dict or [],
    output:
        "results/train/networks/{network}.h5",
    log:
        "logs/train_network-{network}.log",
    benchmark:
        "benchmarks/train_network-{network}.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=roomy(4000),
        runtime=enough(lambda w: cost.train_network(study, w.network)),
    params:
        architecture=lambda w: study.networks[w.network].architecture,
        widths=lambda w: flags(study.networks[w.network], "widths"),
        recipe=lambda w, input: (
            f"--state-dict {shlex.quote(input.state_dict)}"
            if input.state_dict
            else recipe_flags(w)
        ),
    message:
        "train the network {wildcards.network}"
    shell:
        "python {input.script} --data {input.data} --architecture {params.architecture:q} "
        "{params.widths} {params.recipe} "
        "--device {resources.device} --output {output} > {log} 2>&1"
