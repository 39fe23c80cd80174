# The search as published: blocks of a 16-wide network, dealt out to shards of about equal work.
BLOCK_RUNS = [
    f"results/blocks/{name}/shard-{shard:03d}-of-{search.shards(study.runs):03d}.h5"
    for name, search in study.blocks.items()
    for shard in range(search.shards(study.runs))
]


rule search_blocks:
    input:
        script="steps/search_blocks.py",
        library=sources("search_blocks.py"),
        data="results/data/spiral.h5",
        frontier=lambda w: (
            "results/search/frontier.h5" if study.blocks[w.study].searched else []
        ),
        state_dict=lambda w: study.blocks[w.study].state_dict or [],
    output:
        "results/blocks/{study}/shard-{shard}-of-{shards}.h5",
    log:
        "logs/search_blocks/{study}-{shard}-of-{shards}.log",
    benchmark:
        "benchmarks/search_blocks/{study}-{shard}-of-{shards}.jsonl"
    wildcard_constraints:
        study=among(BLOCK_RUNS, "results/blocks/"),
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=growing(4000),
        runtime=enough(lambda w: cost.search_blocks(study, w.study)),
    params:
        blocks=lambda w: flags(
            study.blocks[w.study],
            "widths",
            "most_parameters",
            "most_weights",
            "second_layer_masks",
            "accuracy",
        ),
        masks=lambda w: " ".join(
            f"--{name}"
            for name in ("classes", "labelled")
            if getattr(study.blocks[w.study], name)
        ),
        initial=lambda w: study.blocks[w.study].initial,
        frontier=lambda w, input: (
            f"--frontier {input.frontier}" if input.frontier else ""
        ),
        runs=lambda w: flags(
            study.blocks[w.study].trained_as(study.runs),
            "protocol",
            "epochs",
            "batch_size",
            "learning_rates",
            "schedules",
            "seeds",
        ),
    message:
        "search as published: {wildcards.study}, shard {wildcards.shard}"
    shell:
        "python {input.script} --data {input.data} {params.blocks} "
        "{params.masks} --initial {params.initial:q} {params.frontier} {params.runs} "
        "--shard $((10#{wildcards.shard})) --shards $((10#{wildcards.shards})) "
        "--device {resources.device} --output {output} > {log} 2>&1"
