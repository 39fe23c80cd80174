# Exhaustive search: all sparse networks with few weights, dealt out to shards of about equal work.
SEARCH_SHARDS = [
    f"results/search/k{weights}/round-{number:02d}/"
    f"shard-{shard:03d}-of-{study.search.shards(weights):03d}.h5"
    for weights in range(study.search.weights[0], study.search.weights[1] + 1)
    for number in range(study.search.rounds)
    for shard in range(study.search.shards(weights))
]


rule search_networks:
    input:
        script="steps/search_networks.py",
        library=sources("search_networks.py"),
        data="results/data/spiral.h5",
    output:
        "results/search/k{weights}/round-{round}/shard-{shard}-of-{shards}.h5",
    log:
        "logs/search_networks/k{weights}-round-{round}-{shard}-of-{shards}.log",
    benchmark:
        "benchmarks/search_networks/k{weights}-round-{round}-{shard}-of-{shards}.jsonl"
    wildcard_constraints:
        weights=among(SEARCH_SHARDS, "results/search/k"),
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=growing(2000),
        runtime=enough(
            lambda w: cost.search_networks(
                study, int(w.weights), study.search.shards(int(w.weights))
            )
        ),
    params:
        search=flags(
            study.search,
            "starts",
            "learning_rate",
            "schedule",
            "epochs",
            "rungs",
            "keep",
            "calibrate",
            "polish",
        ),
        first_start=lambda w: int(w.round) * study.search.starts,
        common=flags(study.runs, "protocol", "batch_size"),
    message:
        "search networks of {wildcards.weights} weights, round {wildcards.round}, "
        "shard {wildcards.shard}"
    shell:
        "python {input.script} --data {input.data} --weights {wildcards.weights} "
        "--shard $((10#{wildcards.shard})) --shards $((10#{wildcards.shards})) "
        "--first-start {params.first_start} {params.search} {params.common} "
        "--device {resources.device} --output {output} > {log} 2>&1"


rule search_frontier:
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
        mem_mb=growing(4000),
        runtime=growing(30),
    message:
        "gather the search"
    shell:
        "python {input.script} {input.shards} --output {output} > {log} 2>&1"


rule beam_spiral:
    input:
        script="steps/beam_spiral.py",
        library=sources("beam_spiral.py"),
        data="results/data/spiral.h5",
        networks=["results/search/frontier.h5", *PRUNED_RUNS],
    output:
        "results/search/beam.h5",
    log:
        "logs/beam_spiral.log",
    benchmark:
        "benchmarks/beam_spiral.jsonl"
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=growing(4000),
        runtime=enough(lambda w: cost.beam_spiral(study, w.get("study"))),
    params:
        least=study.beam.weights[0],
        most=study.beam.weights[1],
        beam=flags(study.beam, "width", "starts", "learning_rate", "schedule", "epochs"),
        common=flags(study.runs, "protocol", "batch_size"),
        rest="--polish" if study.beam.polish else "",
    message:
        "search from above"
    shell:
        "python {input.script} {input.networks} --data {input.data} "
        "--least-weights {params.least} --most-weights {params.most} {params.beam} "
        "{params.common} {params.rest} --device {resources.device} --output {output} "
        "> {log} 2>&1"


# The same inside the initial network that a study is given: its pruned masks lose weights, and each
# mask is trained from the given values, with the study's first learning rate and schedule.
use rule beam_spiral as beam_given with:
    input:
        script="steps/beam_spiral.py",
        library=sources("beam_spiral.py"),
        data="results/data/spiral.h5",
        frontier=frontier_of_study,
        state_dict=state_dict_of_study,
        networks=lambda w: [
            f"results/prune/{w.study}/{method}.h5" for method in CHOICES
        ],
    output:
        "results/search/beam-{study}.h5",
    log:
        "logs/beam_given-{study}.log",
    benchmark:
        "benchmarks/beam_given-{study}.jsonl"
    wildcard_constraints:
        study=any_of(study.prune.given),
    params:
        least=lambda w: min(study.prune.studies[w.study].targets),
        most=study.beam.weights[1],
        beam=lambda w: f"{flags(study.beam, 'width')} {training_of_study(w)}",
        common=flags(study.runs, "protocol", "batch_size"),
        rest=start_of_study,
    message:
        "search from above in the initial network of {wildcards.study}"


BEAMS_GIVEN = [f"results/search/beam-{name}.h5" for name in study.prune.given]
