"""The first page of the report: how sparse can it be, in three sentences, a figure and a table.

All text is made from the tables of the study: nothing is said that they do not hold.
"""

import base64
import html

import pandas as pd

from sparselimit.figures.studies import variant
from sparselimit.figures.style import series
from sparselimit.pages import picture
from sparselimit.search.counting import LEAST_WEIGHTS

_TITLE = "How sparse can a neural network be?"
_SHOWN = (
    "Weights against accuracy: what the search knows, what pruning methods need, what theory "
    "predicts"
)
# The page also stands inside the report's own first page: its style must not reach further. There
# it takes the width that it needs, begins at the top, and has the graph of rules below it.
_STYLE = """
.overview { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; color: #222; }
.overview h1 { font-size: 1.6em; margin: 0.4em 0; }
.overview p { margin: 0.5em 0; }
.overview img { display: block; width: 100%; max-width: 46rem; margin: 1em 0; }
.overview table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: auto; }
.overview caption { text-align: left; padding: 0.3em 0; }
.overview th, .overview td { padding: 0.25em 0.8em; text-align: right; vertical-align: bottom;
  border-bottom: 1px solid #ddd; }
.overview thead th { border-bottom: 2px solid #222; }
.overview .text { text-align: left; }
.max-w-lg:has(.overview) { max-width: 60rem; }
.items-center:has(.overview) { align-items: flex-start; justify-content: flex-start; }
.items-start:has(.overview) { flex-direction: column; }
"""
_FOUND_BY = {"search": "the exhaustive search", "beam": "the search from above"}
_SECONDS = {"hours": 3600, "minutes": 60, "seconds": 1}
_GAP = "–"


def page(answers: pd.DataFrame, frontier: pd.DataFrame, extent: pd.DataFrame, figure: str) -> str:
    """The page, from the tables `answers`, `frontier` and `extent` and a figure (SVG)."""
    said = "".join(
        f"<p><strong>{name}.</strong> {html.escape(sentence)}</p>"
        for name, sentence in sentences(answers, frontier).items()
    )
    csv = base64.b64encode(answers.to_csv(index=False).encode()).decode()
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{_TITLE}</title>'
        f'</head><body><div class="overview"><style>{_STYLE}</style><h1>{_TITLE}</h1>\n{said}\n'
        f"{picture(figure, _SHOWN)}\n"
        f"{_table(answers)}\n"
        f'<p><a download="answers.csv" href="data:text/csv;base64,{csv}">Download this table (CSV)'
        f"</a></p>\n<p><strong>What it took.</strong> {html.escape(effort(extent))}</p></div>"
        "</body></html>\n"
    )


def sentences(answers: pd.DataFrame, frontier: pd.DataFrame) -> dict[str, str]:
    """What truth, algorithms and theory say of the highest accuracy that they can be compared at.

    `answers` has a row for each accuracy, `frontier` one for each number of weights that was
    searched.
    """
    known = answers[answers.known_weights.notna()].sort_values("accuracy")
    if known.empty:
        return _nothing_known(answers, frontier)
    both = known[known.method_weights.notna()]
    row = (known if both.empty else both).iloc[-1]
    return {
        "Truth": _truth(row, frontier),
        "Algorithms": _algorithms(row),
        "Theory": _theory(row),
    }


def _nothing_known(answers: pd.DataFrame, frontier: pd.DataFrame) -> dict[str, str]:
    lowest = _percent(answers.accuracy.min())
    found = f"None of {_searched(frontier)} reaches {lowest} accuracy"
    best = frontier.accuracy.max()
    return {
        "Truth": f"{found}; the best reaches {_percent(best)}." if len(frontier) else f"{found}.",
        "Algorithms": f"No pruning method reaches {lowest} either.",
        "Theory": "A limit is predicted for accuracies that a sparse network is known to reach.",
    }


def _truth(row: pd.Series, frontier: pd.DataFrame) -> str:
    weights = int(row.known_weights)
    below = min(int(row.searched_below), weights)  # a method may find what the search missed
    suffice = (
        f"{weights} weights suffice for {_percent(row.accuracy)} accuracy on the Cubist Spiral, "
        f"by a network that {_named(row.known_source)} found and that is stored"
    )
    sparser = frontier[frontier.weights.between(row.searched_from, below - 1)]
    if sparser.empty:
        return f"{suffice}; no sparser networks were searched."
    if below == weights:
        return f"{suffice}; none of {_searched(sparser)} does."
    return (
        f"{suffice}; none of {_searched(sparser)} does, and from {below} to {weights - 1} weights "
        "it is open."
    )


def _algorithms(row: pd.Series) -> str:
    accuracy = _percent(row.accuracy)
    if pd.isna(row.method_weights):
        return f"No pruning method of this study reaches {accuracy}, at any number of weights."
    weights, gap = int(row.method_weights), int(row.gap)
    needs = f"The best pruning method there, {_named(row.method)}, needs {weights} weights"
    if gap == 0:
        return f"{needs}, no more than the sparsest network known."
    share = gap / row.known_weights
    return f"{needs}: {gap} more than the sparsest network known (+{share:.0%})."


def _theory(row: pd.Series) -> str:
    if pd.isna(row.predicted_weights):
        return (
            "For this accuracy the curvature of the loss gives no prediction for the dense "
            "networks of this study."
        )
    low, high = int(row.predicted_low), int(row.predicted_high)
    over = f"{low} to {high} over" if low < high else "the same for"
    return (
        f"From the curvature of dense networks of {int(row.weights_dense):,} weights the corrected "
        f"formula predicts that {row.predicted_weights:.4g} weights must stay ({over} "
        f"{int(row.predicted)} networks)."
    )


def _searched(frontier: pd.DataFrame) -> str:
    """The networks of a search, in words."""
    if frontier.empty:
        return "the networks of this study"
    low, high = frontier.weights.min(), frontier.weights.max()
    without_gap = high - low + 1 == len(frontier) > 1
    extent = f"{low} to {high}" if without_gap else ", ".join(map(str, frontier.weights))
    runs = frontier.runs.sum() / frontier.networks.sum()
    return (
        f"the {frontier.networks.sum():,} networks there are with {extent} weights, each trained "
        f"from {runs:,.0f} starts,"
    )


def _named(source: str) -> str:
    """What a search or a method is called; a variant by the method that it is one of."""
    plain = source.removesuffix(variant(""))
    return _FOUND_BY.get(source) or series({source, plain})[source].label


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.4g}%"


def effort(extent: pd.DataFrame) -> str:
    """What the study took, from the table `extent`: networks, jobs, SGD steps and time."""
    steps = extent.groupby("kind").steps.sum()
    searches = int(steps.filter(["search-shard", "block-runs", "beam"]).sum())
    methods = int(steps.filter(["spiral-runs"]).sum())
    devices = sorted({name for names in extent.devices for name in str(names).split()})
    return (
        f"{extent.networks.sum():,} networks were trained in {extent.files.sum():,} jobs, which "
        f"ran for {_duration(extent.seconds.sum())} in all ({', '.join(devices)}; jobs run side by "
        f"side). On the spiral the searches spent {searches:,} SGD steps, pruning methods and "
        f"dense networks {methods:,}."
    )


def _duration(seconds: float) -> str:
    """A time in the largest unit of which it has two."""
    unit = next((name for name, size in _SECONDS.items() if seconds >= 2 * size), "seconds")
    return f"{seconds / _SECONDS[unit]:.3g} {unit}"


def _table(answers: pd.DataFrame) -> str:
    """The table, a row for each accuracy."""
    headings = (
        "accuracy",
        "sparsest network known",
        "searched in vain below",
        "best method",
        "weights it needs",
        "gap",
        "predicted to stay",
    )
    cells = [f'<th scope="col">{heading}</th>' for heading in headings]
    lines = []
    for _, row in answers.sort_values("accuracy").iterrows():
        predicted = _GAP if pd.isna(row.predicted_weights) else f"{row.predicted_weights:.4g}"
        method = _GAP if pd.isna(row.method_weights) else html.escape(_named(row.method))
        values = [
            _count(row.known_weights),
            _in_vain(row),
            method,
            _count(row.method_weights),
            _count(row.gap),
            predicted,
        ]
        first = f'<th scope="row">{_percent(row.accuracy)}</th>'
        lines.append(f"<tr>{first}{''.join(f'<td>{value}</td>' for value in values)}</tr>")
    return (
        "<table><caption>Weights (biases not counted) for each accuracy on the Cubist Spiral; a "
        "dash: not reached, not predicted, or not searched in vain.</caption>"
        f"<thead><tr>{''.join(cells)}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _in_vain(row: pd.Series) -> str:
    """Below which number of weights all were searched in vain, and from which if from no less."""
    first, below = row.searched_from, row.searched_below
    if not first < below:
        return _GAP
    return _count(below) if first <= LEAST_WEIGHTS else f"{_count(below)} (from {_count(first)})"


def _count(value: float) -> str:
    return _GAP if pd.isna(value) else f"{value:,.0f}"
