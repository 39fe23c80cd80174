"""How figures look, in one place: sizes, fonts, colours and markers, and the SVG they end up as.

Colours tell series apart under all common colour-vision deficiencies (Okabe and Ito, 2008; Tol,
2021, for the last two), and a marker or line style always says the same as the colour.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeAlias

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sparselimit.store import write_text

Parameters = ParamSpec("Parameters")
Layout: TypeAlias = Literal["constrained", "compressed"]

# Widths of one and of two journal columns in cm. The report crops what is taller than wide.
SINGLE, DOUBLE = 8.5, 17.5
TALLEST = 0.9 * DOUBLE
_INCH = 2.54

BLACK, GREY, LIGHT = "#000000", "#767676", "#d9d9d9"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, ORANGE, WINE, OLIVE = "#56b4e9", "#e69f00", "#882255", "#999933"

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
BAND = 0.15  # opacity

_PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, WINE, OLIVE)
_MARKERS = ("o", "^", "v", "D", "P", "X", "<", ">", "p", "h", "*")
_LINESTYLES = ("-", "--", ":")


@dataclass(frozen=True)
class Series:
    """How one series is named and drawn wherever it appears."""

    label: str
    color: str
    marker: str
    linestyle: str = "-"

    @property
    def line(self) -> dict[str, Any]:
        """The keyword arguments of `Axes.plot`."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle}


_FIXED = {
    "search": Series("exhaustive search", BLACK, "o"),
    "dense": Series("dense networks", GREY, "s"),
}
# The methods of the Cubist Spiral study; another one is called as its file.
_METHODS = {
    "imp": "IMP",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
    "iter_snip": "Iter-SNIP",
    "force": "FORCE",
    "prospr": "ProsPr",
    "lth": "LTH",
    "rigl": "RigL",
}


def series(names: Iterable[str]) -> dict[str, Series]:
    """Styles of the search, the dense networks and pruning methods, by name.

    The methods listed above look the same in every study. Any others take what these leave, in
    alphabetical order: they look the same in all figures of one study.
    """
    methods = sorted(set(names) - _FIXED.keys())
    known = [name for name in _METHODS if name in methods]
    slots = {list(_METHODS).index(name): name for name in known}
    free = (slot for slot in count() if slot not in slots)
    for name in methods:
        if name not in _METHODS:
            slots[next(free)] = name
    styles = {name: _method(slot, _METHODS.get(name, name)) for slot, name in sorted(slots.items())}
    return _FIXED | styles


def _method(slot: int, label: str) -> Series:
    lap, color = divmod(slot, len(_PALETTE))
    linestyle = _LINESTYLES[lap % len(_LINESTYLES)]
    return Series(label, _PALETTE[color], _MARKERS[slot % len(_MARKERS)], linestyle)


def graded(values: Iterable[int]) -> dict[int, Series]:
    """Styles of an ordered quantity, such as the width of a network: from dark to light."""
    ordered = sorted(set(values))
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(ordered)))
    return {
        value: Series(str(value), to_hex(shade), _MARKERS[i % len(_MARKERS)])
        for i, (value, shade) in enumerate(zip(ordered, shades, strict=True))
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


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as SVG, complete or not at all; equal figures make equal bytes.

    Raises StoreError when the file cannot be written.
    """
    svg = StringIO()
    with mpl.style.context(RC, after_reset=True):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    write_text(path, svg.getvalue())
