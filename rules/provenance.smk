# Where every figure of the report comes from.
from sparselimit.shards import collapsed

PAGE = (PROVENANCE, "Where every figure comes from", [])
# By name what each figure and table is made from, tables and result files.
SOURCES = {
    "Figure": {
        name: [f"results/{f}" for f in files] for name, (_, _, files) in FIGURES.items()
    },
    "Table": {name: files for name, (_, _, files) in TABLES.items()},
}
# The same as arguments, in the order of the report: its titles there, and names of shards as one.
MADE_FROM = {
    what: json.dumps(
        {
            name: [label, collapsed(SOURCES[what][name])]
            for name, label in sorted(
                labelled(what, entries).items(), key=lambda item: entries[item[0]][0]
            )
        }
    )
    for what, entries in (("Figure", FIGURES), ("Table", TABLES))
}


rule provenance:
    input:
        script="steps/provenance.py",
        library=sources("provenance.py"),
        files=sorted(
            {
                file
                for entries in SOURCES.values()
                for files in entries.values()
                for file in files
                if file.endswith(".h5")
            }
        ),
    output:
        csv="results/provenance.csv",
        page=report(
            "results/provenance.html",
            caption="../report/provenance.rst",
            category=PROVENANCE,
            labels={"result": labelled("Table", {"provenance": PAGE})["provenance"]},
        ),
    log:
        "logs/provenance.log",
    benchmark:
        "benchmarks/provenance.jsonl"
    localrule: True
    conda:
        "../envs/conda.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        figures=MADE_FROM["Figure"],
        tables=MADE_FROM["Table"],
    message:
        "where every figure comes from"
    shell:
        "python {input.script} --figures {params.figures:q} --tables {params.tables:q} "
        "--output {output.csv} > {log} 2>&1"
