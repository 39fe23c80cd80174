# Tables, figures, and what the report says about them. A table or a figure is one entry here.
from collections import Counter

NETWORK_FILES = {
    stage: [f"results/{stage}/{name}.h5" for name in study.networks]
    for stage in ("train/networks", "sweep", "bounds")
}
SPECTRUM_FILES = [
    f"results/spectrum/{name}-{operator}.h5"
    for name in study.networks
    for operator in study.spectrum.steps
]
BEAMS = ["results/search/beam.h5", *BEAMS_GIVEN]
SPIRAL_RUNS = [DENSE_RUNS, *PRUNED_RUNS]
DATA_FILES = ["results/data/spiral.h5", *sorted(set(map(data_file, study.networks)))]

# Sections of the report in reading order. Snakemake sorts them, so they are numbered.
OVERVIEW = "01 Overview"
TASK = "02 The task"
FRONTIER = "03 The frontier"
METHODS = "04 Pruning methods"
SPARSEST = "05 The sparsest networks"
WIDTHS = "06 Overparameterisation"
OPTIMAL = "07 Optimal width and initialisation"
SPECTRA = "08 Spectra"
LIMITS = "09 Limits against sweeps"
MONTE_CARLO = "10 Monte Carlo verdict"
BASELINES = "11 Baselines"
FAILURES = "12 Runs that failed"
PROVENANCE = "13 Provenance"

# name: section of the report, title, files that the table is made from
TABLES = {
    "thresholds": (
        FRONTIER,
        "Fewest weights for each accuracy",
        ["results/search/frontier.h5", *SPIRAL_RUNS],
    ),
    "frontier": (FRONTIER, "The search, by weights", ["results/search/frontier.h5"]),
    "bracket": (
        FRONTIER,
        "How many weights each accuracy takes",
        ["results/search/frontier.h5", "results/search/beam.h5", *SPIRAL_RUNS],
    ),
    "from_above": (FRONTIER, "The search from above", BEAMS),
    "certificate": (FRONTIER, "The certificate", ["results/search/frontier.h5"]),
    "known": (SPARSEST, "The sparsest networks known", ["results/search/frontier.h5"]),
    "exclusion": (FRONTIER, "What the search excludes", ["results/search/frontier.h5"]),
    "power": (FRONTIER, "What it would have found", ["results/search/frontier.h5"]),
    "search_runs": (FRONTIER, "All runs of the search", SEARCH_SHARDS),
    "search_success": (FRONTIER, "How often the search succeeds", SEARCH_SHARDS),
    "blocks": (FRONTIER, "The search as published", BLOCK_RUNS),
    "methods": (METHODS, "What each method reached", SPIRAL_RUNS),
    "equal_budget": (
        OPTIMAL,
        "Methods and search at equal cost",
        [*SPIRAL_RUNS, *SEARCH_SHARDS],
    ),
    "success": (METHODS, "How often each method succeeds", SPIRAL_RUNS),
    "connectivity": (METHODS, "Connectivity, layer by layer", SPIRAL_RUNS),
    "networks": (LIMITS, "The networks", NETWORK_FILES["train/networks"]),
    "bounds": (LIMITS, "Predicted and measured limits", NETWORK_FILES["bounds"]),
    "sweeps": (LIMITS, "One-shot pruning", NETWORK_FILES["sweep"]),
    "sensitivity": (
        LIMITS,
        "What the predictions rest on",
        NETWORK_FILES["bounds"],
    ),
    "gaps": (LIMITS, "Predictions minus measurements", NETWORK_FILES["bounds"]),
    "penalties": (
        LIMITS,
        "Limits and penalties",
        [*NETWORK_FILES["train/networks"], *NETWORK_FILES["bounds"]],
    ),
    "curvature": (
        SPECTRA,
        "Curvature, and how it was measured",
        [*NETWORK_FILES["train/networks"], *SPECTRUM_FILES, *NETWORK_FILES["bounds"]],
    ),
    "rows": (
        SPECTRA,
        "Weights and rows by magnitude",
        [*NETWORK_FILES["train/networks"], *SPECTRUM_FILES],
    ),
    "variation": (
        SPECTRA,
        "Distances between runs",
        [*NETWORK_FILES["train/networks"], *SPECTRUM_FILES],
    ),
    "spectra": (SPECTRA, "Eigenvalue densities", SPECTRUM_FILES),
    "meeting": (
        LIMITS,
        "Limit meets truth",
        [
            "results/spiral_limits.h5",
            "results/search/frontier.h5",
            "results/search/beam.h5",
            *SPIRAL_RUNS,
        ],
    ),
    "geometry": (
        MONTE_CARLO,
        "Width formulas and Monte Carlo",
        ["results/geometry.h5"],
    ),
    "verdict": (MONTE_CARLO, "Which formula is right", ["results/geometry.h5"]),
    "baselines": (
        BASELINES,
        "What pruning methods make of the networks",
        [*BASELINE_RUNS, *NETWORK_FILES["sweep"]],
    ),
    "rounds": (
        BASELINES,
        "Limits, round by round",
        [*BASELINE_RUNS, *ROUND_LIMITS],
    ),
    "reached": (
        BASELINES,
        "How far each network can be pruned",
        [*NETWORK_FILES["bounds"], *NETWORK_FILES["sweep"], *BASELINE_RUNS],
    ),
    "hyperparameters": (
        BASELINES,
        "How networks were trained and pruned",
        [*NETWORK_FILES["train/networks"], *BASELINE_RUNS],
    ),
    "splits": (TASK, "The data and their splits", DATA_FILES),
    "outcomes": (
        FAILURES,
        "What became of all runs",
        [
            *SPIRAL_RUNS,
            *SEARCH_SHARDS,
            *BLOCK_RUNS,
            *NETWORK_FILES["bounds"],
            *BASELINE_RUNS,
        ],
    ),
    "answers": (
        OVERVIEW,
        "The answer for each accuracy",
        [
            "results/spiral_limits.h5",
            "results/search/frontier.h5",
            "results/search/beam.h5",
            *SPIRAL_RUNS,
        ],
    ),
}
# What a study has no files of, classifiers or blocks, it has no table of, and no figure.
TABLES = {name: entry for name, entry in TABLES.items() if entry[-1]}
RESULT_FILES = dict.fromkeys(
    file for _, _, files in TABLES.values() for file in files if file.endswith(".h5")
)
TABLES["extent"] = (OVERVIEW, "How much was done", list(RESULT_FILES))

# name: section of the report, title, tables and result files that the figure shows
FIGURES = {
    "answer": (
        OVERVIEW,
        "Truth, algorithms and theory",
        ["tables/answers.csv"],
    ),
    "frontier": (
        FRONTIER,
        "How sparse can it be?",
        ["tables/frontier.csv", "tables/from_above.csv", "tables/methods.csv"],
    ),
    "gap": (
        OPTIMAL,
        "Pruning on the network that the search found",
        ["tables/equal_budget.csv", "tables/frontier.csv", "tables/from_above.csv"],
    ),
    "sparsest": (
        SPARSEST,
        "The sparsest networks",
        ["tables/frontier.csv", "search/frontier.h5", "data/spiral.h5"],
    ),
    "search": (
        FRONTIER,
        "The search",
        ["tables/frontier.csv", "tables/search_runs.csv"],
    ),
    "search_success": (
        FRONTIER,
        "How often training succeeds",
        ["tables/search_success.csv"],
    ),
    "certificate": (
        FRONTIER,
        "What the search excludes",
        ["tables/exclusion.csv", "tables/power.csv"],
    ),
    "widths": (METHODS, "Accuracy against target", ["tables/methods.csv"]),
    "overparameterisation": (
        WIDTHS,
        "What does a wider network cost?",
        ["tables/methods.csv"],
    ),
    "success": (METHODS, "How often methods succeed", ["tables/success.csv"]),
    "connectivity": (
        METHODS,
        "Connectivity of pruned networks",
        ["tables/connectivity.csv", "tables/methods.csv"],
    ),
    "stuck": (
        METHODS,
        "Where methods get stuck",
        ["tables/outcomes.csv", "tables/connectivity.csv"],
    ),
    "outcomes": (FAILURES, "What became of all runs", ["tables/outcomes.csv"]),
    "repair": (
        METHODS,
        "Does counting effective weights help?",
        ["tables/frontier.csv", "tables/methods.csv"],
    ),
    "spiral": (TASK, "The task", ["data/spiral.h5"]),
    "limits": (
        LIMITS,
        "Limits and one-shot pruning",
        ["tables/sweeps.csv", "tables/bounds.csv"],
    ),
    "predictions": (LIMITS, "Predicted and measured", ["tables/bounds.csv"]),
    "gaps": (LIMITS, "How far off predictions are", ["tables/gaps.csv"]),
    "sensitivity": (
        LIMITS,
        "What the predictions rest on",
        ["tables/sensitivity.csv"],
    ),
    "penalties": (LIMITS, "Limits and penalties", ["tables/penalties.csv"]),
    "weights": (SPECTRA, "Weights, and how they are felt", ["tables/rows.csv"]),
    "variation": (SPECTRA, "Distances between runs", ["tables/variation.csv"]),
    "spectra": (SPECTRA, "Spectra", ["tables/spectra.csv"]),
    "meeting": (LIMITS, "Limit meets truth", ["tables/meeting.csv"]),
    "cone": (MONTE_CARLO, "The geometry", ["geometry.h5"]),
    "geometry": (
        MONTE_CARLO,
        "Are the formulas right?",
        ["tables/geometry.csv", "tables/verdict.csv"],
    ),
    "baselines": (
        BASELINES,
        "Pruning methods and the predicted limit",
        ["tables/baselines.csv", "tables/sweeps.csv", "tables/bounds.csv"],
    ),
    "rounds": (
        BASELINES,
        "One-shot thresholds, round by round",
        ["tables/rounds.csv"],
    ),
}
FIGURES = {
    name: entry
    for name, entry in FIGURES.items()
    if all(Path(file).stem in TABLES for file in entry[-1] if file.endswith(".csv"))
}

TABLE_FILES = [f"results/tables/{name}.csv" for name in TABLES]
FIGURE_FILES = [f"results/figures/{name}.svg" for name in FIGURES]


def labelled(what, entries):
    """How the report lists each of `entries`: `Figure 3.2 The search`, counted by section."""
    counts = Counter()
    labels = {}
    for name, (section, title, files) in entries.items():
        counts[section] += 1
        labels[name] = f"{what} {int(section[:2])}.{counts[section]} {title}"
    return labels


for name, label in labelled("Table", TABLES).items():
    section, _, files = TABLES[name]

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
                labels={"result": label},
            ),
        log:
            f"logs/table-{name}.log",
        benchmark:
            f"benchmarks/table-{name}.jsonl"
        localrule: True
        conda:
            "../envs/conda.yaml"
        resources:
            mem_mb=growing(2000),
            runtime=growing(10),
        params:
            name=name,
        message:
            f"table {name}"
        shell:
            "python {input.script} --name {params.name} {input.files} --output {output.csv} "
            "> {log} 2>&1"


for name, label in labelled("Figure", FIGURES).items():
    section, _, files = FIGURES[name]

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
                labels={"result": label},
            ),
        log:
            f"logs/figure-{name}.log",
        benchmark:
            f"benchmarks/figure-{name}.jsonl"
        localrule: True
        conda:
            "../envs/conda.yaml"
        resources:
            mem_mb=growing(2000),
            runtime=growing(10),
        params:
            name=name,
        message:
            f"figure {name}"
        shell:
            "python {input.script} --name {params.name} {input.files} --output {output} "
            "> {log} 2>&1"
