"""How far one network can be pruned: a page with what is measured and predicted of it alone."""

import html
from collections.abc import Mapping, Sequence

import pandas as pd

from sparselimit.figures import registry
from sparselimit.figures.limits import principal, variants
from sparselimit.figures.style import svg
from sparselimit.limits.tables import by_name
from sparselimit.pages import page, picture
from sparselimit.store import Stored
from sparselimit.tables import TABLES

_KINDS = ("network", "sweep", "spectrum", "bounds")
# Tables that are made of a network's own files, and of which kinds of them.
_MADE = {
    "networks": ("network",),
    "bounds": ("bounds",),
    "sensitivity": ("bounds",),
    "sweeps": ("sweep",),
    "spectra": ("spectrum",),
    "rows": ("network", "spectrum"),
    "curvature": ("network", "spectrum", "bounds"),
}
# Those of them that are shown, with what they are.
_SHOWN = {
    "bounds": "All predictions and measurements, by formula and tolerated rise in loss (epsilon)",
    "curvature": "The curvature, and how it was measured",
}
# Figures, with what they show.
_FIGURES = {
    "limits": "Above: how far the loss on the fitted data rises when the smallest weights are "
    "removed at once, without training, and the rise that is tolerated. Below: validation "
    "accuracy. Vertical lines: the measured and the predicted limits.",
    "predictions": "All predictions and measurements, a row for each tolerated rise in loss.",
    "sensitivity": "How predictions move with the tolerance, and with the scale of the weights at "
    "the same curvature.",
    "spectra": "Eigenvalue densities of the Hessian and the Gauss–Newton matrix.",
    "weights": "The weights by magnitude, and how the loss feels them.",
}
_STYLE = """
body { max-width: 62rem; margin: 1.5em auto; }
figure { margin: 1.5em 0; } img { width: 100%; } .wide { overflow-x: auto; }
"""


def network_page(name: str, files: Sequence[Stored]) -> str:
    """The page, from the network's `network`, `sweep`, `bounds` and `spectrum` files.

    Raises InputError if one of these kinds is missing.
    """
    of_kind = {kind: list(by_name(files, kind).values()) for kind in _KINDS}
    tables = {
        table: TABLES[table]([file for kind in kinds for file in of_kind[kind]])
        for table, kinds in _MADE.items()
    }
    title = f"How far can {name} be pruned?"
    tolerance = float(of_kind["bounds"][0].config["accuracy_tolerance"])
    said = "".join(f"<p>{html.escape(text)}</p>" for text in sentences(tables, tolerance))
    figures = "".join(_figure(figure, text, tables) for figure, text in _FIGURES.items())
    shown = "".join(
        f"<h2>{html.escape(text)}</h2><div class='wide'>{_table(tables[table])}</div>"
        for table, text in _SHOWN.items()
    )
    return page(title, f"<h1>{html.escape(title)}</h1>{said}{figures}{shown}", _STYLE)


def sentences(tables: Mapping[str, pd.DataFrame], tolerance: float) -> list[str]:
    """What is measured and what is predicted, from the tables `networks` and `bounds`.

    tolerance: fall of validation accuracy that counted as none.
    """
    network, bounds = tables["networks"].iloc[0], tables["bounds"]
    spread = bounds[bounds.rule == "batch_std"]
    first = spread.iloc[0]
    return [
        f"{network.network} ({network.architecture}) has {network.prunable:,} prunable weights "
        f"among {network.parameters:,} parameters, and {network.validation_accuracy:.2%} "
        "validation accuracy.",
        f"Measured: the smallest {first.one_shot_ratio_by_accuracy:.1%} of its weights can be "
        "removed at once, without training, before validation accuracy falls by more than "
        f"{tolerance:.2%}, and {first.one_shot_ratio:.1%} before the loss on the fitted data rises "
        f"by more than its spread between batches, {first.epsilon:.3g} nats.",
        "Predicted for that rise in loss, by formula and matrix: "
        + "; ".join(_prediction(style.label, row) for style, row in variants(principal(spread)))
        + ".",
        "Predictions suppose that the kept weights go to where a quadratic model of the loss is "
        "least, so they can lie beyond what is measured without training.",
    ]


def _prediction(label: str, rows: pd.DataFrame) -> str:
    """One prediction in words; what cannot be told says why."""
    row = rows.iloc[0]
    if pd.isna(row.pruning_ratio):
        return f"{label}: unresolved, {row.reason}"
    return f"{label}: {row.pruning_ratio:.1%} can be removed, {row.density:.1%} must stay"


def _figure(name: str, text: str, tables: Mapping[str, pd.DataFrame]) -> str:
    drawn = svg(registry.draw(name, **{part: tables[part] for part in registry.parts(name)}))
    return f"<figure>{picture(drawn, text)}<figcaption>{html.escape(text)}</figcaption></figure>"


def _table(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, na_rep="–", float_format=lambda x: f"{x:.4g}")
