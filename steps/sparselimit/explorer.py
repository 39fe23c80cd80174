"""The explorer: networks of the spiral in one page that draws them and computes what they do.

The page is put together from its parts in report/explorer/ and the networks as JSON; it loads
nothing else. It makes the spiral from its formula and computes in double precision from the stored
single-precision weights, as `search.verification` does: both count the same points as correct.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline

from sparselimit import scoring, spiral
from sparselimit.ensemble.members import Points
from sparselimit.errors import InputError
from sparselimit.figures import style
from sparselimit.figures.networks import neuron_heights
from sparselimit.figures.studies import is_control
from sparselimit.networks.initial import Fixed
from sparselimit.networks.mlp import MLP, cropped
from sparselimit.search.verification import accuracy, beam_claims, claims
from sparselimit.store import Stored

FILE_KINDS = ("frontier", "beam", "spiral-runs")
# Snakemake's report shows larger pages blank.
MOST_BYTES = 1_000_000
# A network of more cannot be told apart as a drawing; the dense 2-16-16-16-1 has 560.
MOST_WEIGHTS = 600
# Training evaluates in single precision, where points next to the boundary may change sides.
ROUNDING = 0.001

SCRIPTS = ("spiral", "network", "plane", "graph", "map", "controls", "save", "main")
OWN = "own"
_COLOURS = {
    "class-0": style.CLASSES[0],
    "class-1": style.CLASSES[1],
    "positive": style.GREEN,
    "negative": style.PURPLE,
    "dark": style.DARK,
    "grey": style.GREY,
    "light": style.LIGHT,
}


@dataclass(frozen=True)
class Entry:
    """A network of the page.

    source      who found it: search, beam, dense, a pruning method, or `own`
    parameters  float [n_parameters], zero wherever `mask`, bool [n_weights], keeps no weight
    stated      the accuracy that its file states; None if it states none
    origin      in words, where it comes from
    pruned      the network that it is part of, if neurons without a weight have been left out
    """

    source: str
    network: MLP
    mask: np.ndarray
    parameters: np.ndarray
    stated: float | None
    origin: str
    pruned: MLP | None = None

    @property
    def weights(self) -> int:
        """Number of weights kept."""
        return int(self.mask.sum())


def entries(file: Stored) -> Iterator[Entry]:
    """The networks of a file of the FILE_KINDS, without random controls and runs that diverged."""
    if file.attributes["kind"] == "spiral-runs":
        yield from _of_runs(file)
    else:
        yield from _of_search(file)


def _of_search(file: Stored) -> Iterator[Entry]:
    searched = file.attributes["kind"] == "frontier"
    for claim in claims(file)[0] if searched else beam_claims(file):
        row = claim.row
        if searched:
            origin = f"network {row['network']:,} of {row['networks']:,}, start {row['start']:,}"
        else:
            origin = f"best of {row['networks']:,} that lost one weight after the other"
        origin += ", polished by L-BFGS" if row["polished"] else ""
        source = "search" if searched else "beam"
        yield Entry(source, claim.shape, claim.mask, claim.parameters, claim.stated, origin)


def _of_runs(file: Stored) -> Iterator[Entry]:
    rows = file.table("runs").to_dict("records")
    study = file.path.parent.name
    for row, stored in zip(rows, spiral.stored_networks(file), strict=True):
        if is_control(row["method"]) or row["diverged_at"] >= 0:
            continue
        where = "" if row["method"] == "dense" else f"study {study.replace('_', ' ')}, "
        origin = (
            f"{where}learning rate {row['learning_rate']:g}, {row['schedule']} schedule, "
            f"seed {row['seed']}"
        )
        yield Entry(row["method"], *stored, row["accuracy"], origin)


def own_network(path: Path) -> Entry:
    """A network of one's own from an npz file, as `scoring.read_candidate` takes it, with weights.

    Raises InputError if it is none, or too large to be drawn.
    """
    candidate = scoring.read_candidate(path)
    if not isinstance(candidate.initial, Fixed):
        raise InputError(
            f"{path}: has masks alone; add the weights and biases, weight_0 to weight_3 and bias_0 "
            "to bias_3, or train it by steps/score.py --output and give the file that it writes"
        )
    if candidate.weights > MOST_WEIGHTS:
        raise InputError(
            f"{path}: keeps {candidate.weights:,} weights; the page draws up to {MOST_WEIGHTS}"
        )
    mask = candidate.mask.numpy()
    parameters = candidate.initial.parameters.astype(np.float32)
    parameters[: len(mask)][~mask] = 0
    return Entry(OWN, candidate.network, mask, parameters, None, path.name)


def best(found: Iterable[Entry]) -> list[Entry]:
    """Of each source the most accurate network of each number of weights; all of one's own.

    They are made compact. By source, in the order in which figures name them, then by weights.
    """
    chosen: dict[tuple[str, object], Entry] = {}
    for entry in found:
        if entry.weights > MOST_WEIGHTS:
            continue
        key = entry.source, entry.origin if entry.source == OWN else entry.weights
        other = chosen.get(key)
        if other is None or (entry.stated or 0) > (other.stated or 0):
            chosen[key] = compact(entry)
    order = [OWN, *style.series({source for source, _ in chosen} - {OWN})]
    return sorted(chosen.values(), key=lambda entry: (order.index(entry.source), entry.weights))


def page(networks: Sequence[Entry], points: Points, parts: Path) -> str:
    """The page that shows networks, from its parts in a folder.

    Networks of the most weights are left out where the page would be too large for the report.

    Raises InputError when there is none, or the accuracy that a file states is not that of its
    weights.
    """
    if not networks:
        raise InputError("no network to show: all runs diverged or are too large to be drawn")
    data = [(entry, described(entry, points)) for entry in networks]
    while True:
        text = _filled(parts, _by_source(data))
        if len(text.encode()) <= MOST_BYTES or len(data) == 1:
            return text
        largest = max(data, key=lambda pair: (pair[0].source != OWN, pair[0].weights))[0].weights
        logging.warning("networks of %d weights are left out: the page is full", largest)
        data = [pair for pair in data if pair[0].source == OWN or pair[0].weights < largest]


def described(entry: Entry, points: Points) -> dict[str, Any]:
    """A network as the page takes it, with the number of points that it classifies correctly.

    Numbers are written with as few digits as single precision needs.
    """
    network, mask, parameters = entry.network, entry.mask, entry.parameters
    found = accuracy(network, parameters, points)
    if entry.stated is not None and abs(found - entry.stated) > ROUNDING:
        raise InputError(
            f"the network of {entry.weights} weights by {entry.source} ({entry.origin}) has "
            f"accuracy {found:.6f}, not {entry.stated:.6f}; run its step again"
        )
    pairs = zip(network.weights(mask), network.weights(parameters), strict=True)
    return {
        "weights": entry.weights,
        "correct": round(found * len(points.y)),
        "origin": entry.origin,
        "shape": (entry.pruned or network).sizes,
        "sizes": network.sizes,
        "edges": [
            [layer, to, source, _short(values[to, source])]
            for layer, (kept, values) in enumerate(pairs)
            for to, source in np.argwhere(kept).tolist()
        ],
        "biases": [[_short(bias) for bias in layer] for layer in network.biases(parameters)],
    }


def compact(entry: Entry) -> Entry:
    """A network without the hidden neurons that have no weight, but for one of each layer.

    Neurons of a layer come in the order in which they are drawn, the highest first.
    """
    inputs, *_, outputs = (np.arange(size) for size in entry.network.sizes)
    used = [inputs]
    for into, out in pairwise(entry.network.weights(entry.mask)):
        has_weight = np.logical_or(into.any(axis=1), out.any(axis=0))
        has_weight[0] |= not has_weight.any()
        used.append(np.flatnonzero(has_weight))
    used.append(outputs)
    shape, where = cropped(entry.network, used)
    heights = neuron_heights(shape.weights(entry.mask[where[: shape.n_weights]]))
    ordered = [layer[np.argsort(-height)] for layer, height in zip(used, heights, strict=True)]
    shape, where = cropped(entry.network, ordered)
    return replace(
        entry,
        network=shape,
        mask=entry.mask[where[: shape.n_weights]],
        parameters=entry.parameters[where],
        pruned=entry.network,
    )


def _short(value: np.float32) -> float:
    """The shortest decimal number that single precision rounds to the same."""
    return float(str(np.float32(value)))


def _by_source(data: Sequence[tuple[Entry, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Networks by who found them, with name and looks."""
    sources = list(dict.fromkeys(entry.source for entry, _ in data))
    looks = style.series(set(sources) - {OWN}) | {
        OWN: style.Series("your network", style.VERMILLION, "*")
    }
    return [
        {
            "name": source,
            "label": looks[source].label,
            "color": looks[source].color,
            "filled": looks[source].filled,
            "marker": _outline(looks[source].marker),
            "networks": [network for entry, network in data if entry.source == source],
        }
        for source in sources
    ]


def _outline(marker: str) -> str:
    """A marker of the figures as path data of an SVG, two units large, y upwards."""
    drawn = MarkerStyle(marker)
    path = drawn.get_path().transformed(drawn.get_transform())
    path = Outline(path.vertices / np.abs(path.vertices).max(), path.codes)
    letters = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE4: "C", Outline.CURVE3: "Q"}
    data = []
    for vertices, code in path.iter_segments():
        if code == Outline.CLOSEPOLY:
            data.append("Z")
        else:
            data.append(letters[code] + " ".join(f"{value:g}" for value in vertices.round(3)))
    return "".join(data)


def _filled(parts: Path, sources: Sequence[Mapping[str, Any]]) -> str:
    """The page's template with everything in its place."""
    # No `<` in the data can end the script that holds it.
    data = json.dumps(sources, separators=(",", ":")).replace("<", r"\u003c")
    return Template(_read(parts / "page.html")).substitute(
        style=_read(parts / "style.css"),
        colours=" ".join(f"--{name}: {colour};" for name, colour in _COLOURS.items()),
        script="\n".join(_read(parts / f"{name}.js") for name in SCRIPTS),
        networks=data,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
