# Exhaustive search: all sparse networks with few weights, dealt out to shards of about equal work.
from math import ceil

from sparselimit.search.counting import totals

SEARCHED = range(study.search.weights[0], study.search.weights[1] + 1)


def shards_of(weights):
    """Into how many jobs the networks of so many weights are cut."""
    runs = totals(SEARCHED[-1])[weights] * study.search.starts
    return ceil(runs / study.search.runs_per_job)


SEARCH_SHARDS = [
    f"results/search/k{weights}/shard-{shard:03d}-of-{shards_of(weights):03d}.h5"
    for weights in SEARCHED
    for shard in range(shards_of(weights))
]


rule search_networks:
    message:
        "search networks of {wildcards.weights} weights, shard {wildcards.shard}"
    input:
        script="steps/search_networks.py",
        library=sources("search_networks.py"),
        data="results/data/spiral.h5",
    output:
        "results/search/k{weights}/shard-{shard}-of-{shards}.h5",
    params:
        runs=flags(study.search, "starts", "learning_rate", "schedule", "epochs"),
        common=flags(study.runs, "protocol", "batch_size"),
    log:
        "logs/search_networks/k{weights}-{shard}-of-{shards}.log",
    benchmark:
        "benchmarks/search_networks/k{weights}-{shard}-of-{shards}.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "python {input.script} --data {input.data} --weights {wildcards.weights} "
        "--shard $((10#{wildcards.shard})) --shards $((10#{wildcards.shards})) {params.runs} "
        "{params.common} --device {study.device} --output {output} > {log} 2>&1"


rule search_frontier:
    message:
        "gather the search"
    input:
        script="steps/search_frontier.py",
        library=sources("search_frontier.py"),
        shards=SEARCH_SHARDS,
    output:
        "results/search/frontier.h5",
    log:
        "logs/search_frontier.log",
    benchmark:
        "benchmarks/search_frontier.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "python {input.script} {input.shards} --output {output} > {log} 2>&1"
