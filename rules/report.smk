# Tables, figures, and what the report says about them. A table or a figure is one line here.
NETWORK_FILES = {
    stage: [f"results/{stage}/{name}.h5" for name in study.networks]
    for stage in ("train/networks", "sweep", "bounds")
}
SPECTRUM_FILES = [
    f"results/spectrum/{name}-{operator}.h5"
    for name in study.networks
    for operator in study.spectrum.steps
]
SPIRAL = "1 The Cubist Spiral"
LIMITS = "2 Limits of trained networks"

# name: section of the report, files that the table is made from
TABLES = {
    "thresholds": (SPIRAL, ["results/search/frontier.h5", *DENSE_RUNS, *PRUNED_RUNS]),
    "frontier": (SPIRAL, ["results/search/frontier.h5"]),
    "search_runs": (SPIRAL, SEARCH_SHARDS),
    "methods": (SPIRAL, [*DENSE_RUNS, *PRUNED_RUNS]),
    "networks": (LIMITS, NETWORK_FILES["train/networks"]),
    "bounds": (LIMITS, NETWORK_FILES["bounds"]),
    "sweeps": (LIMITS, NETWORK_FILES["sweep"]),
    "spectra": (LIMITS, SPECTRUM_FILES),
    "geometry": (LIMITS, ["results/geometry.h5"]),
}

# name: section of the report, tables and result files that the figure shows
FIGURES = {
    "frontier": (SPIRAL, ["tables/frontier.csv", "tables/methods.csv"]),
    "search": (SPIRAL, ["tables/frontier.csv", "tables/search_runs.csv"]),
    "sparsest": (
        SPIRAL,
        ["tables/frontier.csv", "search/frontier.h5", "data/spiral.h5"],
    ),
    "widths": (SPIRAL, ["tables/methods.csv"]),
    "connectivity": (SPIRAL, ["tables/methods.csv"]),
    "spiral": (SPIRAL, ["data/spiral.h5"]),
    "limits": (LIMITS, ["tables/sweeps.csv", "tables/bounds.csv"]),
    "predictions": (LIMITS, ["tables/bounds.csv"]),
    "spectra": (LIMITS, ["tables/spectra.csv"]),
    "geometry": (LIMITS, ["tables/geometry.csv"]),
}

TABLE_FILES = [f"results/tables/{name}.csv" for name in TABLES]
FIGURE_FILES = [f"results/figures/{name}.svg" for name in FIGURES]


for name, (section, files) in TABLES.items():

    rule:
        name:
            f"table_{name}"
        input:
            script="steps/table.py",
            library=sources("table.py"),
            files=files,
        output:
            csv=f"results/tables/{name}.csv",
            page=report(
                f"results/tables/{name}.html",
                caption=f"../report/tables/{name}.rst",
                category=section,
                subcategory="Tables",
                labels={"name": name.replace("_", " ")},
            ),
        log:
            f"logs/table-{name}.log",
        benchmark:
            f"benchmarks/table-{name}.jsonl"
        conda:
            "../envs/conda.yaml"
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            name=name,
        message:
            f"table {name}"
        shell:
            "python {input.script} --name {params.name} {input.files} --output {output.csv} "
            "> {log} 2>&1"


for name, (section, files) in FIGURES.items():

    rule:
        name:
            f"figure_{name}"
        input:
            script="steps/figure.py",
            library=sources("figure.py", f"sparselimit.figures.{name}"),
            files=[f"results/{file}" for file in files],
        output:
            report(
                f"results/figures/{name}.svg",
                caption=f"../report/figures/{name}.rst",
                category=section,
                subcategory="Figures",
                labels={"name": name.replace("_", " ")},
            ),
        log:
            f"logs/figure-{name}.log",
        benchmark:
            f"benchmarks/figure-{name}.jsonl"
        conda:
            "../envs/conda.yaml"
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            name=name,
        message:
            f"figure {name}"
        shell:
            "python {input.script} --name {params.name} {input.files} --output {output} "
            "> {log} 2>&1"
