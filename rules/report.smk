# Tables, figures, and what the report says about them. A table or a figure is one entry here.
from sparselimit.figures.registry import MODULES

NETWORK_FILES = {
    stage: [f"results/{stage}/{name}.h5" for name in study.networks]
    for stage in ("train/networks", "sweep", "bounds")
}
SPECTRUM_FILES = [
    f"results/spectrum/{name}-{operator}.h5"
    for name in study.networks
    for operator in study.spectrum.steps
]
SPIRAL_RUNS = [DENSE_RUNS, *PRUNED_RUNS]
SPIRAL = "1 The Cubist Spiral"
LIMITS = "2 Limits of trained networks"

# name: section of the report, title, files that the table is made from
TABLES = {
    "thresholds": (
        SPIRAL,
        "Fewest weights for each accuracy",
        ["results/search/frontier.h5", *SPIRAL_RUNS],
    ),
    "frontier": (SPIRAL, "The search, by weights", ["results/search/frontier.h5"]),
    "bracket": (
        SPIRAL,
        "How many weights each accuracy takes",
        ["results/search/frontier.h5", "results/search/beam.h5", *SPIRAL_RUNS],
    ),
    "from_above": (SPIRAL, "The search from above", ["results/search/beam.h5"]),
    "certificate": (SPIRAL, "The certificate", ["results/search/frontier.h5"]),
    "known": (SPIRAL, "The sparsest networks known", ["results/search/frontier.h5"]),
    "exclusion": (SPIRAL, "What the search excludes", ["results/search/frontier.h5"]),
    "power": (SPIRAL, "What it would have found", ["results/search/frontier.h5"]),
    "search_runs": (SPIRAL, "All runs of the search", SEARCH_SHARDS),
    "search_success": (SPIRAL, "How often the search succeeds", SEARCH_SHARDS),
    "blocks": (SPIRAL, "The search as published", BLOCK_RUNS),
    "methods": (SPIRAL, "What each method reached", SPIRAL_RUNS),
    "equal_budget": (
        SPIRAL,
        "Methods and search at equal cost",
        [*SPIRAL_RUNS, *SEARCH_SHARDS],
    ),
    "success": (SPIRAL, "How often each method succeeds", SPIRAL_RUNS),
    "connectivity": (SPIRAL, "Connectivity, layer by layer", SPIRAL_RUNS),
    "networks": (LIMITS, "The networks", NETWORK_FILES["train/networks"]),
    "bounds": (LIMITS, "Predicted and measured limits", NETWORK_FILES["bounds"]),
    "sweeps": (LIMITS, "One-shot pruning", NETWORK_FILES["sweep"]),
    "spectra": (LIMITS, "Eigenvalue densities", SPECTRUM_FILES),
    "geometry": (LIMITS, "Width formulas and Monte Carlo", ["results/geometry.h5"]),
}
if not study.blocks:
    del TABLES["blocks"]

# name: section of the report, title, tables and result files that the figure shows
FIGURES = {
    "frontier": (
        SPIRAL,
        "How sparse can it be?",
        ["tables/frontier.csv", "tables/from_above.csv", "tables/methods.csv"],
    ),
    "gap": (
        SPIRAL,
        "Pruning on the network that the search found",
        ["tables/equal_budget.csv", "tables/frontier.csv"],
    ),
    "sparsest": (
        SPIRAL,
        "The sparsest networks",
        ["tables/frontier.csv", "search/frontier.h5", "data/spiral.h5"],
    ),
    "search": (
        SPIRAL,
        "The search",
        ["tables/frontier.csv", "tables/search_runs.csv"],
    ),
    "search_success": (
        SPIRAL,
        "How often training succeeds",
        ["tables/search_success.csv"],
    ),
    "certificate": (
        SPIRAL,
        "What the search excludes",
        ["tables/exclusion.csv", "tables/power.csv"],
    ),
    "widths": (SPIRAL, "Methods, by width", ["tables/methods.csv"]),
    "success": (SPIRAL, "How often methods succeed", ["tables/success.csv"]),
    "connectivity": (
        SPIRAL,
        "Connectivity of pruned networks",
        ["tables/connectivity.csv", "tables/methods.csv"],
    ),
    "repair": (
        SPIRAL,
        "Does counting effective weights help?",
        ["tables/frontier.csv", "tables/methods.csv"],
    ),
    "spiral": (SPIRAL, "The task", ["data/spiral.h5"]),
    "limits": (
        LIMITS,
        "Limits and one-shot pruning",
        ["tables/sweeps.csv", "tables/bounds.csv"],
    ),
    "predictions": (LIMITS, "Predicted and measured", ["tables/bounds.csv"]),
    "spectra": (LIMITS, "Spectra", ["tables/spectra.csv"]),
    "geometry": (LIMITS, "Are the formulas right?", ["tables/geometry.csv"]),
}

TABLE_FILES = [f"results/tables/{name}.csv" for name in TABLES]
FIGURE_FILES = [f"results/figures/{name}.svg" for name in FIGURES]


for place, (name, (section, title, files)) in enumerate(TABLES.items(), start=1):

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
                labels={"table": f"{place}. {title}"},
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


for place, (name, (section, title, files)) in enumerate(FIGURES.items(), start=1):

    rule:
        name:
            f"figure_{name}"
        input:
            script="steps/figure.py",
            library=sources("figure.py", MODULES[name]),
            files=[f"results/{file}" for file in files],
        output:
            report(
                f"results/figures/{name}.svg",
                caption=f"../report/figures/{name}.rst",
                category=section,
                subcategory="Figures",
                labels={"figure": f"{place}. {title}"},
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
