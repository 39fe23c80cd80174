"""How figures look, in one place: sizes, fonts, colours and markers, and the SVG they end up as.

Colours tell series apart under all common colour-vision deficiencies (Okabe and Ito, 2008; Tol,
2021, for the last three), and a marker or line style always says the same as the colour.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from sparselimit.figures.studies import MAGNITUDE, control, is_control, owners, variant
from sparselimit.store import write_text

Parameters = ParamSpec("Parameters")
Key = TypeVar("Key")
Layout: TypeAlias = Literal["constrained", "compressed"]

# Widths of one and of two journal columns in cm. The report crops what is taller than wide.
SINGLE, DOUBLE = 8.5, 17.5
TALLEST = 0.9 * DOUBLE
_INCH = 2.54

BLACK, DARK, GREY, LIGHT = "#000000", "#4d4d4d", "#767676", "#d9d9d9"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, ORANGE, WINE, OLIVE, INDIGO = "#56b4e9", "#e69f00", "#882255", "#999933", "#332288"

_FONT, _SMALL_FONT = 8, 7  # pt, in print

RC = {
    "figure.dpi": 72,  # that of an SVG
    "text.hinting": "none",  # measures text as an SVG draws it
    "savefig.dpi": 300,  # of parts drawn as pixels
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": _FONT,
    "axes.titlesize": _FONT,
    "axes.labelsize": _FONT,
    "figure.labelsize": _FONT,
    "xtick.labelsize": _SMALL_FONT,
    "ytick.labelsize": _SMALL_FONT,
    "legend.fontsize": _SMALL_FONT,
    "legend.title_fontsize": _SMALL_FONT,
    "legend.frameon": False,
    "legend.handlelength": 2.6,  # shows dashes
    "axes.axisbelow": True,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LIGHT,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "lines.markeredgewidth": 0.8,
    "svg.fonttype": "path",  # needs no font where it is shown
    "svg.hashsalt": "sparselimit",
}

CLASSES = (BLUE, ORANGE)  # of the spiral
PUBLISHED, CORRECTED = VERMILLION, BLUE  # width formulas
BAND = 0.15  # opacity

_PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, WINE, OLIVE, INDIGO)
_MARKERS = ("o", "^", "v", "D", "P", "X", "<", ">", "p", "h", "*")
_LINESTYLES = ("-", "-.")


@dataclass(frozen=True)
class Series:
    """How one series is named and drawn wherever it appears."""

    label: str
    color: str
    marker: str
    linestyle: str = "-"
    filled: bool = True  # the marker

    @property
    def line(self) -> dict[str, Any]:
        """The keyword arguments of `Axes.plot`."""
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.linestyle,
            "markerfacecolor": self.color if self.filled else "white",
        }


SEARCH = Series("exhaustive search", BLACK, "o")
BEAM = Series("search from above", BLACK, "o", "--", filled=False)
_FIXED = {
    "search": SEARCH,
    "beam": BEAM,
    "dense": Series("dense networks", GREY, "s"),
}
# The methods of the Cubist Spiral study; another one is called as its file.
_METHODS = {
    "imp": "IMP",
    "imp_lth": "IMP-LTH",
    "rigl": "RigL",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
    "iter_snip": "Iter-SNIP",
    "force": "FORCE",
    "prospr": "ProsPr",
}
_MAGNITUDE = Series(MAGNITUDE, DARK, "s")


def series(names: Iterable[str]) -> dict[str, Series]:
    """Styles of what is named: the search, the dense networks, pruning methods; in this order.

    The methods listed above look the same in every study. Any others take what these leave, in
    alphabetical order: they look the same in all figures of one study. Variants and controls have
    the colour and the marker of their method; they come after it.
    """
    names = set(names)
    belongs = owners(names - _FIXED.keys())
    styles = _of_methods(set(belongs.values()))
    order = list(styles)

    def rank(name: str) -> tuple[int, bool, str]:
        return order.index(belongs[name]), is_control(name), name

    return {name: style for name, style in _FIXED.items() if name in names} | {
        name: _of_family(name, belongs[name], styles[belongs[name]])
        for name in sorted(belongs, key=rank)
    }


def _of_methods(methods: set[str]) -> dict[str, Series]:
    """Styles of methods, in the order in which figures name them."""
    slots = {name: slot for slot, name in enumerate(_METHODS) if name in methods}
    free = (slot for slot in count() if slot not in set(slots.values()))
    others = sorted(methods - _METHODS.keys() - {MAGNITUDE})
    slots |= dict(zip(others, free, strict=False))
    styles = {name: _method(slot, _METHODS.get(name, name)) for name, slot in slots.items()}
    return styles | ({MAGNITUDE: _MAGNITUDE} if MAGNITUDE in methods else {})


def _method(slot: int, label: str) -> Series:
    lap, color = divmod(slot, len(_PALETTE))
    linestyle = _LINESTYLES[lap % len(_LINESTYLES)]
    return Series(label, _PALETTE[color], _MARKERS[slot % len(_MARKERS)], linestyle)


def _of_family(name: str, method: str, style: Series) -> Series:
    """The style of a method, or of one of its variants and controls."""
    if name in (variant(method), control(variant(method))):
        style = replace(style, label=f"{style.label}, effective", linestyle="--", filled=False)
    if is_control(name):
        red, green, blue = ((1 + part) / 2 for part in to_rgb(style.color))
        lighter = to_hex((red, green, blue))
        style = replace(style, label=f"random, like {style.label}", color=lighter, linestyle=":")
    return style


def graded(labels: Mapping[Key, str]) -> dict[Key, Series]:
    """Styles of ordered things, such as networks of growing width: from dark to light."""
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(labels)))
    return {
        key: Series(label, to_hex(shade), _MARKERS[i % len(_MARKERS)])
        for i, ((key, label), shade) in enumerate(zip(labels.items(), shades, strict=True))
    }


def distinct(labels: Iterable[str]) -> dict[str, Series]:
    """Styles told apart by their marker alone, where the colour says something else."""
    return {
        label: Series(label, GREY, _MARKERS[i % len(_MARKERS)]) for i, label in enumerate(labels)
    }


def new_figure(width: float, height: float, *, equal_aspect: bool = False) -> Figure:
    """An empty figure of a size in cm, not known to pyplot.

    `equal_aspect` says that its axes have a shape of their own and are to be placed close together.
    """
    layout: Layout = "compressed" if equal_aspect else "constrained"
    return Figure(figsize=(width / _INCH, height / _INCH), layout=layout)


def styled(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Let a function draw in this style, whatever the user's own settings, and fix its layout."""

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with mpl.style.context(RC, after_reset=True):
            figure = draw(*args, **kwargs)
            # Each further pass of the layout moves things a little: stop, so that saving repeats.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        return figure

    return drawn


def svg(figure: Figure) -> str:
    """A figure as SVG; equal figures make equal texts."""
    text = StringIO()
    with mpl.style.context(RC, after_reset=True):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as SVG, complete or not at all. Raises StoreError when it cannot be."""
    write_text(path, svg(figure))
