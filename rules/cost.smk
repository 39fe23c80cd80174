# What the study costs, before it runs: `snakemake --cores 1 cost`.
SMALL = {
    "data": len(DATA_FILES),
    "bounds": len(study.networks),
    "search_frontier": 1,
    "table": len(TABLES),
    "figure": len(FIGURES),
    "explorer": 1,
    "overview": 1,
    "provenance": 1,
}
PLAN = [
    cost.train_spiral(study),
    *(
        cost.prune_spiral(study, name, choice)
        for choice in CHOICES.values()
        for name in study.prune.studies
    ),
    *(
        cost.search_networks(study, weights, study.search.shards(weights))
        for weights in range(study.search.weights[0], study.search.weights[1] + 1)
    ),
    cost.beam_spiral(study),
    *(cost.beam_spiral(study, name) for name in study.prune.given),
    *(cost.search_blocks(study, name) for name in study.blocks),
    cost.spiral_limits(study),
    *(cost.train_network(study, name) for name in study.networks),
    *(cost.sweep_network(study, name) for name in study.networks),
    *(
        cost.spectrum(study, name, operator)
        for name in study.networks
        for operator in study.spectrum.steps
    ),
    *(
        cost.prune_network(study, name, choice, part)
        for method, choice in BASELINE_METHODS.items()
        for name in study.pruned_networks
        for part in BASELINE_PARTS[method]
    ),
    *(cost.round_limits(study, name) for name in study.pruned_networks if ROUND_LIMITS),
    cost.geometry(study),
    *(cost.small(name, "", jobs) for name, jobs in SMALL.items()),
]
# Rules that make something, of which nothing is known here; some have no job in most studies.
NOT_COUNTED = [
    one.name
    for one in workflow.rules
    if one.output
    and not one.name.startswith(
        ("beam_given", "search_blocks", "network_page", *(jobs.rule for jobs in PLAN))
    )
]


rule cost:
    input:
        script="steps/cost.py",
    log:
        "logs/cost.log",
    localrule: True
    conda:
        "../envs/conda.yaml"
    params:
        rates=RATES,  # no input: to tell costs, nothing is measured
        plan=json.dumps([jobs.plain for jobs in PLAN]),
        not_counted=NOT_COUNTED,
    message:
        "what the study costs"
    shell:
        "python {input.script} --plan {params.plan:q} --rates {params.rates} "
        "--not-counted {params.not_counted} | tee {log}"


rule rates:
    input:
        script="steps/rates.py",
        library=sources("rates.py"),
    output:
        RATES_HERE,
    log:
        "logs/rates.log",
    conda:
        "../envs/conda.yaml"
    resources:
        device=study.device,
        gpu=GPUS,
        mem_mb=growing(8000),
        runtime=growing(60),
    message:
        "measure what work takes on this machine"
    shell:
        "python {input.script} --device {resources.device} --output {output} > {log} 2>&1"
