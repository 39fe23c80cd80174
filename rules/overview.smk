# The first page of the report: how sparse can it be?
rule overview:
    input:
        script="steps/overview.py",
        library=sources("overview.py"),
        answers="results/tables/answers.csv",
        frontier="results/tables/frontier.csv",
        extent="results/tables/extent.csv",
        figure="results/figures/answer.svg",
    output:
        report(
            "results/overview.html",
            caption="../report/overview.rst",
            category=OVERVIEW,
            labels={"result": "1.0 How sparse can it be?"},
        ),
    log:
        "logs/overview.log",
    benchmark:
        "benchmarks/overview.jsonl"
    localrule: True
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    message:
        "first page of the report"
    shell:
        "python {input.script} --answers {input.answers} --frontier {input.frontier} "
        "--extent {input.extent} --figure {input.figure} --output {output} > {log} 2>&1"
