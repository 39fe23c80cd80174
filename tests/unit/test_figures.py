"""Figures drawn from small tables: what is in them, that nothing collides, and the SVG of them."""

import inspect
import xml.etree.ElementTree as ET
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox

from sparselimit.accounts import OUTCOMES
from sparselimit.datasets import cubist_spiral
from sparselimit.errors import InputError
from sparselimit.figures import studies, style
from sparselimit.figures.layout import accuracy_axis, bar_width, log_weights_axis, weights_axis
from sparselimit.figures.limits import principal
from sparselimit.figures.networks import neuron_heights
from sparselimit.figures.registry import COLUMNS, MODULES, draw
from sparselimit.figures.search import best_of_all
from sparselimit.networks.mlp import MLP

Given = dict[str, Any]  # data frames and arrays

NINE = ["imp", "imp_lth", "rigl", "snip", "grasp", "synflow", "iter_snip", "force", "prospr"]
TWELVE = [*NINE, "a_method", "another_method", "mine"]


def pruned_places(names: list[str], widths: list[int], given: bool) -> list[tuple[str, str, str]]:
    """Study, network and method of all runs; the first two methods have variants."""
    alike = [*names, *(f"{name}_effective" for name in names[:2])]
    controls = [f"random_{name}" for name in alike]
    found = [
        ("overparameterisation", f"w{width}", name)
        for width, name in product(widths, [*alike, *controls])
    ]
    if given:
        places = [("optimal_width", "searched"), ("optimal_start", "searched")]
        places.append(("optimal_start", "w16"))
        found += [(*place, name) for place, name in product(places, alike)]
    return found


def pruning_tables(names: list[str], widths: list[int], targets: list[int], given: bool) -> Given:
    """All tables of runs; every number follows from how good a method is made to be."""
    rows: dict[str, list[tuple]] = {
        table: [] for table in ("methods", "success", "equal_budget", "connectivity")
    }
    for study, network, name in pruned_places(names, widths, given):
        number = names.index(name.removeprefix("random_").removesuffix("_effective"))
        late = 3 * number + 8 * name.startswith("random_") - 2 * name.endswith("_effective")
        late += widths.index(int(network[1:])) if study == "overparameterisation" else 0
        for target in targets:
            best = 0.5 + 0.5 / (1 + np.exp((18 + late - target) / 6))
            median, low, high = 0.5 + (best - 0.5) * np.array([0.6, 0.1, 0.9])
            run = (study, name, network, target)
            rows["methods"].append((*run, 4, target, best, median, low, high, best))
            for accuracy in (0.8, 0.9, 0.95):
                rate = max(0, best - accuracy)
                rows["success"].append((*run, 4, accuracy, rate, 0.9 * rate, 0.1 + rate))
            steps = 4 * 19500 * (5 if name == "imp_lth" else 1)
            searched = [median, low, best, 0.9] if target < 20 else [np.nan] * 4
            rows["equal_budget"].append((*run, 4, steps, best, median, *searched))
            for when, layer in product(("start", "end"), (1, 2, 3, 4)):
                kept = target / 4 if when == "end" else target
                neurons = (1, 0, 0) if layer == 4 else (3, 2, 1)
                rows["connectivity"].append((*run, when, layer, kept, best * kept, *neurons))
    for width in widths:
        weights, best = 2 * width**2 + 3 * width, 1 - 0.4 * np.exp(-(width**2) / 20)
        run = ("dense", "dense", f"w{width}", weights)
        rows["methods"].append((*run, 4, weights, 1, best - 0.02, 0.5, best, best))
        rows["success"].append((*run, 4, 0.8, 1, 0.9, 1))
        rows["equal_budget"].append((*run, 4, 78000, best, best, *[np.nan] * 4))
        rows["connectivity"].append((*run, "end", 1, weights, weights, width, 0, 0))
    return {table: pd.DataFrame(found, columns=COLUMNS[table]) for table, found in rows.items()}


def outcomes_table(names: list[str], widths: list[int], targets: list[int], given: bool) -> Given:
    """Every method comes to more and more of the outcomes, the larger the target is."""
    groups = [
        *(("prune", *place) for place in pruned_places(names, widths, given)),
        *(("train", "dense", f"w{width}", "dense") for width in widths),
        ("search", "search", "all", "search"),
        ("search", "first_phase", "all", "blocks"),
    ]
    rows = []
    for (stage, study, network, source), target in product(groups, targets):
        found = OUTCOMES[: 1 + len(OUTCOMES) * (1 + targets.index(target)) // (1 + len(targets))]
        share = 1 / len(found)
        rows += [(stage, study, source, network, target, name, 4, share) for name in found]
    return {"outcomes": pd.DataFrame(rows, columns=COLUMNS["outcomes"])}


def answers_table(case: str) -> Given:
    """Of growing accuracies all is known, then only what was searched in vain."""
    known = np.array([10.0, 12, 16, 20, np.nan])
    predicted = known * {"default": 0.0, "many": 40.0, "single": np.nan}[case]
    table = pd.DataFrame(
        {
            "accuracy": (0.8, 0.9, 0.95, 0.99, 0.995),
            "searched_from": 4,
            "searched_below": (10, 12, 14, 18, 18),
            "known_weights": known,
            "method_weights": known + 3,
            "predicted_weights": predicted,
            "predicted_low": predicted / 2,
            "predicted_high": predicted * 2 + 30,
        }
    )
    return {"answers": table}


def search_tables(weights: range) -> Given:
    k = np.array(weights)
    best = 1 - 0.45 * np.exp(-(k - 4) / 4)
    frontier = pd.DataFrame({"weights": k, "networks": 2 ** (k - 3), "runs": 2 ** (k + 1)})
    frontier = frontier.assign(dead=0.6, accuracy=best, d1=2, d2=2, d3=1)
    quantiles = {name: 0.5 + share * (best - 0.5) for name, share in QUANTILES.items()}
    return {
        "frontier": frontier,
        "search_runs": pd.DataFrame({"weights": k, **quantiles}),
        "search_success": search_success_table(weights),
        "from_above": pd.DataFrame(
            {
                "study": np.repeat(["", "optimal_start"], len(k)),
                "given_start": np.repeat([False, True], len(k)),
                "weights": np.concatenate([k + len(k), k + 6]),
                "runs": 900,
                "accuracy": 1 - np.outer([0.2, 0.4], np.exp(-(k - 4) / 4)).ravel(),
            }
        ),
        **certificate_tables(weights),
    }


def search_success_table(weights: range) -> pd.DataFrame:
    """Success is rarer the fewer the weights and the higher the accuracy, down to none."""
    rows = []
    for k, (number, accuracy) in product(weights, enumerate((0.6, 0.7, 0.8, 0.9))):
        networks, rate = 2 ** (k - 3), min(0.5, 0.1 ** (3 + number - k / 4))
        successes = int(rate * 300 * networks)
        succeeded = min(networks, successes)
        found = (k, accuracy, networks, succeeded, successes)
        rows.append((*found, *(successes / (300 * networks) * np.array([1, 0.7, 1.4]))))
    return pd.DataFrame(rows, columns=COLUMNS["search_success"])


def certificate_tables(weights: range) -> Given:
    """Of 300 starts each, of which racing loses more the higher the accuracy."""
    rates = np.geomspace(1e-4, 1, 20)
    excluded, power = [], []
    for k, (number, accuracy) in product(weights, enumerate((0.8, 0.9, 0.95, 0.99, 0.995))):
        seen = 1 - 0.1 * number
        excluded.append((k, accuracy, 0.01 / seen))
        power += [(k, accuracy, rate, 1 - (1 - rate * seen) ** 300) for rate in rates]
    return {
        name: pd.DataFrame(rows, columns=COLUMNS[name])
        for name, rows in (("exclusion", excluded), ("power", power))
    }


QUANTILES = {"q50": 0.0, "q90": 0.7, "q99": 0.9, "best": 1.0}


def limit_tables(networks: list[str], tolerances: list[float], unresolved: bool) -> Given:
    ratios = np.linspace(0, 0.995, 60)
    sweeps, bounds, spectra, curves, rows = [], [], [], [], []
    for number, network in enumerate(networks):
        loss = 0.01 + 3 * ratios ** (4 + number)
        accuracy = 0.97 - 0.8 * ratios**9
        sweeps += [
            (network, *row) for row in zip(ratios, loss, accuracy, accuracy - 0.01, strict=True)
        ]
        for rule, epsilon in [("batch_std", 0.004), *(("fixed", value) for value in tolerances)]:
            reached = 0.35 + 0.2 * epsilon**0.2
            for row, gain in zip(VARIANTS, (0.4, 0.44, 0.46, 0.42, 0.48, 0.5, 0.47), strict=True):
                ratio = np.nan if unresolved and row[0] == "hessian" else reached + gain
                exact = np.nan if unresolved else reached + 0.45
                bounds.append((network, *row, rule, epsilon, 1880, ratio, reached, exact))
                scaled = [(scale, ratio - 0.05 * scale, np.nan, np.nan) for scale in (1, 2, 5)]
                curves += [(network, *row, "scale", rule, epsilon, *point) for point in scaled]
        for epsilon in (1e-4, 1e-2, 1.0):
            reached = 0.3 + 0.05 * np.log10(epsilon)
            points = [(1, reached + 0.1 * i, reached, reached + 0.2) for i in range(len(VARIANTS))]
            curves += [
                (network, *row, "epsilon", "fixed", epsilon, *point)
                for row, point in zip(VARIANTS, points, strict=True)
            ]
        grid = np.linspace(-0.2, 3 + number, 80)
        for operator in ("hessian", "ggn"):
            density = 30 * np.exp(-((grid / 0.05) ** 2)) + 0.01 * np.exp(-((grid - 2) ** 2))
            spectra += [(network, operator, *point) for point in zip(grid, density, strict=True)]
            rows += [
                (
                    network,
                    operator,
                    10.0**k,
                    10.0 ** (k + 1),
                    470,
                    0.25,
                    *10.0 ** np.arange(k, k + 3),
                )
                for k in range(-6 + number, -2 + number)
            ]
    return {
        name: pd.DataFrame(rows, columns=COLUMNS[name])
        for name, rows in (
            *(("sweeps", sweeps), ("bounds", bounds), ("spectra", spectra)),
            *(("sensitivity", curves), ("rows", rows)),
        )
    }


BASELINES = ["imp", "rare_gems", "rare_gems_l2", "smart_ratio", "fine_tuned", "mine"]


def baselines_table(networks: int, methods: list[str]) -> pd.DataFrame:
    """A dense network of 95%; methods lose the more the sparser, each later than the next."""
    rows: list[tuple] = []
    for network in (f"net{i}" for i in range(networks)):
        rows.append((network, "dense", 0, np.nan, 1.0, np.nan, 0.95))
        for place, method in enumerate(methods):
            for number, density in enumerate((0.5, 0.2, 0.1, 0.02)):
                asked = np.nan if method == "imp" else density
                accuracy = 0.95 - 0.02 * (place + 1) * (1 / density - 1) ** 0.5
                run = (network, method, number, asked, density, 0.3 + 0.7 * density, accuracy)
                rows.append(run)
    return pd.DataFrame(rows, columns=COLUMNS["baselines"])


def rounds_table(networks: int) -> pd.DataFrame:
    """Rounds of IMP, each with two predictions; what the coarser one says of the last is open."""
    rows: list[tuple] = []
    for network in (f"net{i}" for i in range(networks)):
        for number, density in enumerate((1.0, 0.5, 0.2, 0.1)):
            run = (network, "imp", number, density, 0.9 * density)
            published = np.nan if number == 3 else 0.3 * density
            rows.append((*run, "ggn", "psd", "published", "none", published))
            rows.append((*run, "ggn", "psd", "B", "offset", 0.2 * density))
    return pd.DataFrame(rows, columns=COLUMNS["rounds"])


VARIANTS = [
    ("hessian", "abs", "published", "none"),
    ("hessian", "clip", "published", "none"),
    ("ggn", "psd", "published", "none"),
    ("ggn", "psd", "trace", "none"),
    ("ggn", "psd", "A", "offset"),
    ("ggn", "psd", "B", "offset"),
    ("ggn", "psd", "B", "isotropic"),
]


def meeting_table(widths: list[int]) -> pd.DataFrame:
    """At the lowest accuracy 0 weights are predicted; at the highest nothing for the widest one;
    by formula B on the Hessian there are predictions for half of the networks only."""
    rows = []
    for operator, negative, formula in FORMULAS:
        for width, (place, accuracy) in product(widths, enumerate((0.8, 0.9, 0.95, 0.99, 0.995))):
            none = place == 4 and width == max(widths)
            kept = np.nan if none else place * width
            dense = (accuracy, f"w{width}", width, 2 * width * (width + 2), 2)
            half = 1 if (operator, formula) == ("hessian", "B") else 2
            predicted = (0 if none else half, kept, kept, 2 * kept)
            known = (12 + place, 4, 12, "imp", 20 + place)
            rows.append((*dense, operator, negative, formula, *predicted, *known))
    return pd.DataFrame(rows, columns=COLUMNS["meeting"])


FORMULAS = [
    ("hessian", "abs", "published"),
    ("hessian", "psd", "B"),
    *(("ggn", "psd", formula) for formula in ("published", "A", "B", "reoptimised")),
]


def gap_table(bounds: pd.DataFrame) -> pd.DataFrame:
    above = bounds.pruning_ratio - bounds.one_shot_ratio
    return bounds.assign(
        bracket=bounds.pruning_ratio * 0.004,
        above_reoptimised=bounds.pruning_ratio - bounds.reoptimised_ratio,
        above_one_shot=above,
        above_one_shot_by_accuracy=above - 0.1,
    )


def penalty_table(penalties: list[float], seeds: int) -> pd.DataFrame:
    """One network for each penalty of either kind and seed, for two tolerances."""
    rows = []
    for (l1, decay), seed, rule in product(
        [*((value, 0.0) for value in penalties), *((0.0, value) for value in penalties[1:])],
        range(seeds),
        ("batch_std", "fixed"),
    ):
        ratio = 0.2 + 0.05 * seed + 0.1 * np.log1p(1e4 * (l1 + decay))
        ratios = ratio + 0.2 * np.arange(4) + (rule == "fixed")
        rows.append(("net", "fc 20 20", l1, decay, 0.9 - l1, rule, *ratios))
    return pd.DataFrame(rows, columns=COLUMNS["penalties"])


def variation_table() -> pd.DataFrame:
    places = [
        *product(["weights"], ["seed", "recipe"]),
        *product(["hessian", "ggn"], ["probe", "seed", "recipe"]),
    ]
    rows = [
        (of, differ, 0.1 * i + 0.05 * j, 0.08 if of == "weights" else np.nan)
        for i, (of, differ) in enumerate(places)
        for j in range(3)
    ]
    return pd.DataFrame(rows, columns=COLUMNS["variation"])


def cone_parts() -> Given:
    distance = np.geomspace(3, 30, 8)
    share = 1 / (1 + (distance / 10) ** 2)
    table = pd.DataFrame({"distance": distance, "published": 0.8 * share, "corrected": share})
    kept = np.arange(41) / 40
    return {
        "cone": table.assign(measured=share, measured_error=0.01),
        "met": (kept >= 1 - share[:, None]).astype(float),
    }


def verdict_table() -> pd.DataFrame:
    rows = [
        (model, formula, error, 4 * error, 0.015)
        for model in "AB"
        for formula, error in (("published", 0.114), ("corrected", 0.003))
    ]
    return pd.DataFrame(rows, columns=COLUMNS["verdict"])


def geometry_table() -> pd.DataFrame:
    share = np.array([0.1, 0.25, 0.5, 0.75, 0.97])
    parts = [
        pd.DataFrame({"published": share, "corrected": np.sqrt(share)}).assign(
            spectrum=spectrum, model=model
        )
        for spectrum in ("flat", "power1", "netlike")
        for model in "AB"
    ]
    table = pd.concat(parts)
    return table.assign(
        measured=table.corrected,
        measured_low=table.corrected - 0.02,
        measured_high=table.corrected + 0.02,
    )


def networks_arrays(n: int) -> Given:
    """Networks 2-2-2-1-1 in a frame 2-3-2-1-1, whose logit is first input minus second."""
    frame = MLP((2, 3, 2, 1, 1))
    parameters = np.zeros((n, frame.n_parameters), dtype=np.float32)
    first, second, third, last = frame.weights(parameters)
    first[:, 0], first[:, 1] = (1, -1), (-1, 1)  # the two signs of the difference
    second[:, 0, 0] = second[:, 1, 1] = 1
    third[:, 0] = (1, -1)
    last[:, 0, 0] = 1
    mask = parameters[:, : frame.n_weights] != 0
    parameters[:, : frame.n_weights][~mask] = 5  # of no effect
    return {"sizes": np.array(frame.sizes), "mask": mask, "parameters": parameters}


def points() -> Given:
    data = cubist_spiral()
    return {"x": data.x[::25], "y": data.y[::25]}


@cache
def tables(case: str) -> Given:
    """Everything that figures are drawn from, in three sizes."""
    names, widths, targets, given, weights, networks, tolerances = {
        "default": (
            *(["imp", "imp_lth", "snip", "magnitude"], [3, 4, 16], [8, 10, 14, 32], True),
            *(range(4, 11), 2, [0.01, 0.1]),
        ),
        "many": (
            *([*TWELVE, "magnitude"], [3, 4, 6, 8, 16, 64], [10, 12, 20, 32], True),
            *(range(4, 18), 4, [0.1]),
        ),
        "single": (["imp"], [4], [12], False, range(9, 10), 1, []),
    }[case]
    limits = limit_tables([f"net{i}" for i in range(networks)], tolerances, case == "many")
    penalties = [0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0][: 2 * networks]
    return (
        pruning_tables(names, widths, targets, given)
        | outcomes_table(names, widths, targets, given)
        | answers_table(case)
        | {"geometry": geometry_table(), "meeting": meeting_table(widths)}
        | {"verdict": verdict_table(), **cone_parts()}
        | search_tables(weights)
        | limits
        | {"gaps": gap_table(limits["bounds"]), "variation": variation_table()}
        | {"penalties": penalty_table(penalties, networks)}
        | {"baselines": baselines_table(networks, BASELINES[: 3 * networks])}
        | {"rounds": rounds_table(networks)}
        | networks_arrays(len(weights))
        | points()
    )


def given(name: str, case: str) -> Given:
    module = __import__(MODULES[name], fromlist=[name])
    everything = tables(case)
    return {part: everything[part] for part in inspect.signature(getattr(module, name)).parameters}


@cache
def figure(name: str, case: str = "default") -> Figure:
    return draw(name, **given(name, case))


def points_of(line: Line2D) -> np.ndarray:
    """Points [n, 2] of a line."""
    return np.stack([np.asarray(line.get_xdata()), np.asarray(line.get_ydata())], axis=1)


def curves(axes: Axes) -> dict[str, np.ndarray]:
    """Points [n, 2] of each line by its label."""
    return {str(line.get_label()): points_of(line) for line in axes.lines}


# --- What is seen of a figure ---------------------------------------------------------------------


def hidden_texts(figure: Figure) -> set[Text]:
    """Texts that exist but are not drawn: ticks out of view, and axes that are switched off."""
    hidden: set[Text] = set()
    for axes in figure.findobj(Axes):
        for axis in axes.findobj(Axis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not axes.axison or not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    hidden |= {tick.label1, tick.label2}
    return hidden


def boxes(figure: Figure) -> dict[Text, Bbox]:
    """Where each text stands, in points."""
    with mpl.style.context(style.RC, after_reset=True):
        figure.draw_without_rendering()  # puts texts in their places
        renderer = FigureCanvasAgg(figure).get_renderer()
        hidden = hidden_texts(figure)
        return {
            text: text.get_window_extent(renderer)
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip() and text not in hidden
        }


def overlap(one: Bbox, other: Bbox, slack: float = 0.5) -> bool:
    return (
        min(one.x1, other.x1) - max(one.x0, other.x0) > slack
        and min(one.y1, other.y1) - max(one.y0, other.y0) > slack
    )


ALL = pytest.mark.parametrize(
    ("name", "case"),
    [
        (name, case)
        for name in MODULES
        for case in ("default", "many", "single")
        if case == "default" or name not in ("spiral", "geometry", "cone", "variation")
    ],
)


@ALL
def test_texts_are_legible(name: str, case: str) -> None:
    """Large enough, within the figure, and none on another."""
    drawn = figure(name, case)
    found = boxes(drawn)
    assert min(float(text.get_fontsize()) for text in found) >= 7
    width, height = drawn.bbox.size
    for text, box in found.items():
        inside = (
            box.x0 >= -0.5 and box.y0 >= -0.5 and box.x1 <= width + 0.5 and box.y1 <= height + 0.5
        )
        assert inside, text.get_text()
    for (one, box), (other, other_box) in combinations(found.items(), 2):
        assert not overlap(box, other_box), (one.get_text(), other.get_text())


@ALL
def test_legends_leave_the_data_free(name: str, case: str) -> None:
    drawn = figure(name, case)
    renderer = FigureCanvasAgg(drawn).get_renderer()
    for legend in drawn.findobj(Legend):
        for axes in drawn.axes:
            assert not overlap(legend.get_window_extent(renderer), axes.get_window_extent(renderer))


@ALL
def test_is_of_column_width_and_lies_across(name: str, case: str) -> None:
    width, height = 2.54 * figure(name, case).get_size_inches()
    assert style.SINGLE <= width <= style.DOUBLE + 1e-9
    assert height <= 0.9 * width + 1e-9


@ALL
def test_axes_are_named(name: str, case: str) -> None:
    drawn = figure(name, case)
    assert drawn.get_supxlabel() or any(axes.get_xlabel() for axes in drawn.axes)
    assert drawn.get_supylabel() or any(axes.get_ylabel() for axes in drawn.axes)


@pytest.mark.parametrize("name", MODULES)
def test_svg_is_well_formed_and_repeats(name: str, tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    style.save(figure(name), path)
    first = path.read_bytes()
    style.save(figure(name), path)
    assert path.read_bytes() == first
    tags = [element.tag.rpartition("}")[2] for element in ET.fromstring(first).iter()]
    assert "text" not in tags  # paths, which need no font
    assert "date" not in tags
    assert tags.count("image") == {"spiral": 1, "sparsest": 10, "cone": 1}.get(
        name, 0
    )  # points as pixels
    assert len(first) < 400_000


@pytest.mark.parametrize("name", ["frontier", "sparsest", "geometry"])
def test_equal_data_make_equal_bytes(name: str, tmp_path: Path) -> None:
    style.save(figure(name), tmp_path / "one.svg")
    style.save(draw(name, **given(name, "default")), tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_own_settings_of_the_user_change_nothing(tmp_path: Path) -> None:
    style.save(figure("search"), tmp_path / "plain.svg")
    with mpl.rc_context({"font.size": 20, "axes.labelpad": 30, "svg.fonttype": "none"}):
        before = dict(mpl.rcParams)
        style.save(draw("search", **given("search", "default")), tmp_path / "own.svg")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "own.svg").read_bytes()


def test_save_names_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/x\.svg: cannot be written"):
        style.save(figure("search"), tmp_path / "file" / "x.svg")


# --- Styles ---------------------------------------------------------------------------------------


def test_series_look_the_same_in_any_company() -> None:
    alone, together = style.series(["snip", "dense"]), style.series([*TWELVE, "dense", "search"])
    for name in ("snip", "dense"):
        assert alone[name] == together[name]
    assert style.series(reversed(TWELVE)) == style.series(TWELVE)
    named = ["magnitude", "zeta", "snip", "dense", "random_imp", "imp_effective", "imp", "search"]
    ordered = ["search", "dense", "imp", "imp_effective", "random_imp", "snip", "zeta", "magnitude"]
    assert list(style.series(named)) == ordered


def test_series_are_told_apart_by_more_than_colour() -> None:
    styles = list(style.series(["search", "dense", *TWELVE]).values())
    assert len({(s.color, s.linestyle) for s in styles}) == len(styles)
    for one, other in combinations(styles, 2):
        assert one.label != other.label
        assert (one.marker, one.linestyle) != (other.marker, other.linestyle) or {
            one.color,
            other.color,
        } & {style.BLACK, style.GREY}


def test_the_published_methods_have_a_colour_and_a_marker_each() -> None:
    styles = style.series(NINE).values()
    assert len({s.color for s in styles}) == len({s.marker for s in styles}) == 9
    assert {s.linestyle for s in styles} == {"-"}


def test_variants_and_controls_look_like_their_method_but_for_line_and_shade() -> None:
    family = ["mine", "mine_effective", "random_mine", "random_mine_effective"]
    method, *others = (style.series([*family, "snip"])[name] for name in family)
    effective, alike, alike_effective = others
    assert {s.marker for s in others} == {method.marker}
    assert effective.color == method.color
    assert alike.color == alike_effective.color
    lightness = [np.mean(to_rgba(s.color)[:3]) for s in (method, alike)]
    assert lightness[1] == pytest.approx((1 + lightness[0]) / 2, abs=0.01)
    assert [s.linestyle for s in (method, *others)] == ["-", "--", ":", ":"]
    assert [s.filled for s in (method, *others)] == [True, False, True, False]
    assert [s.label for s in (method, *others)] == [
        *("mine", "mine, effective", "random, like mine", "random, like mine, effective")
    ]


def test_graded_styles_get_lighter_and_follow_the_order() -> None:
    styles = style.graded({"w3": "3", "w8": "8", "w16": "16"})
    assert [s.label for s in styles.values()] == ["3", "8", "16"]
    lightness = [np.dot(to_rgba(s.color)[:3], (0.299, 0.587, 0.114)) for s in styles.values()]
    assert lightness == sorted(lightness)


def test_layout_measures_text_as_wide_as_an_svg_has_it() -> None:
    with mpl.style.context(style.RC, after_reset=True):
        text = style.new_figure(style.DOUBLE, 3).text(0, 0, "measured, one-shot", fontsize=7)
        width = text.get_window_extent().width
    path = TextPath((0, 0), text.get_text(), size=7, prop=text.get_fontproperties())
    assert width == pytest.approx(path.get_extents().width, rel=0.02)


# --- Which rows are shown -------------------------------------------------------------------------


def test_owners() -> None:
    names = ["imp", "imp_effective", "random_imp", "random_imp_effective", "most_effective"]
    assert studies.owners([*names, "random_snip"]) == {
        "imp": "imp",
        "imp_effective": "imp",
        "random_imp": "imp",
        "random_imp_effective": "imp",
        "most_effective": "most_effective",  # there is no method `most`
        "random_snip": "snip",
    }


def test_studies_are_cut_into_that_of_widths_and_the_others() -> None:
    rows = [
        *(
            ("wide", name, network)
            for name in ("imp", "random_imp")
            for network in ("w16", "w3", "w4")
        ),
        ("given", "imp", "searched"),
        ("both", "imp", "w4"),
        ("both", "snip", "searched"),
        *(("dense", "dense", f"w{width}") for width in range(3, 9)),
    ]
    table = pd.DataFrame(rows, columns=["study", "method", "network"])
    assert set(studies.pruned(table).method) == {"imp", "snip"}
    assert set(studies.of_widths(table).study) == {"wide"}
    others = studies.beside_widths(table)
    assert set(others.study) == {"given", "both"}
    assert list(studies.places(others)) == [
        ("given", "searched"),
        ("both", "searched"),
        ("both", "w4"),
    ]
    assert studies.places(table)["wide", "w16"].index.tolist() == [0, 3]
    wide = table[table.study == "wide"]
    pd.testing.assert_frame_equal(studies.beside_widths(wide), wide)  # there is no other
    assert studies.network_labels(table.network[:7]) == {
        "searched": "searched",
        "w3": "3",
        "w4": "4",
        "w16": "16",
    }


# --- Axes -----------------------------------------------------------------------------------------


def test_accuracy_axis_is_stretched_and_ends_at_the_next_tick() -> None:
    axes = Figure().add_subplot()
    accuracy_axis(axes, np.array([47.0, 83.0, np.nan]), room=20)
    low, high = axes.get_ylim()
    assert 45 < low < 47
    assert 90 < high < 91
    assert sorted(axes.get_yticks()) == [50, 60, 70, 80, 90]
    levels = np.array([50, 80, 90, 99, 99.5, 100])
    points = np.stack([np.zeros(6), levels], axis=1)
    scaled = axes.transScale.transform(points)
    assert (np.diff(np.diff(scaled[:, 1]) / np.diff(levels)) > 0).all()  # steeper and steeper
    np.testing.assert_allclose(axes.transScale.inverted().transform(scaled), points)


def test_accuracy_axis_labels_only_what_it_has_room_for() -> None:
    for room in (4, 8, 20):
        axes = Figure().add_subplot()
        accuracy_axis(axes, np.array([50.0, 99.9]), room=room)
        assert len(axes.get_yticks()) <= room
        assert {50, 100} <= set(axes.get_yticks())
    accuracy_axis(axes, np.array([np.nan]), room=8)  # nothing to show
    assert sorted(axes.get_yticks()) == [50, 60]


@pytest.mark.parametrize(
    ("weights", "labels"),
    [([4, 10], [4, 5, 6, 7, 8, 9, 10]), ([4, 560], [4, 6, 10, 20, 40, 60, 100, 200, 400, 600])],
)
def test_log_weights_axis(weights: list[int], labels: list[int]) -> None:
    axes = Figure().add_subplot()
    log_weights_axis(axes, np.array(weights))
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == pytest.approx(labels)


@pytest.mark.parametrize("targets", [[12], [12, 20], [8, 10, 14, 32], [15, 16, 17, 18]])
def test_bars_stand_apart_and_within_the_axis(targets: list[int]) -> None:
    axes = Figure().add_subplot()
    places = pd.Series(targets)
    weights_axis(axes, places)
    width = bar_width(places)
    assert width < min(np.diff(targets), default=1)
    low, high = axes.get_xlim()
    assert low <= places.min() - width / 2
    assert places.max() + width / 2 <= high


# --- What the figures show ------------------------------------------------------------------------


def test_best_of_all() -> None:
    rows = [
        ("wide", "imp", "w3", 12, 4, 12, 1, 0.6, 0.5, 0.65, 0.7),
        ("wide", "imp", "w4", 12, 2, 11, 1, 0.55, 0.5, 0.8, 0.9),
        ("given", "imp", "w3", 12, 5, 12, 1, 0.5, 0.4, 0.55, 0.6),
        ("given", "imp", "w3", 10, 4, 10, 1, 0.5, 0.4, 0.55, 0.6),
        ("given", "imp", "w8", 10, 4, 10, 1, np.nan, np.nan, np.nan, np.nan),
    ]
    best = best_of_all(pd.DataFrame(rows, columns=COLUMNS["methods"]))
    assert best.to_dict("list") == {"weights": [10, 11], "runs": [4, 11], "best": [0.6, 0.9]}


def test_frontier_shows_search_methods_and_dense_networks() -> None:
    drawn = given("frontier", "default")
    (axes,) = figure("frontier").axes
    lines = {label.split(",")[0]: xy for label, xy in curves(axes).items() if "n = " in label}
    # Neither variants nor controls.
    searches = ["exhaustive search", "search from above"]
    assert list(lines) == [*searches, "dense networks", "IMP", "IMP-LTH", "SNIP"]
    truth = drawn["frontier"]
    np.testing.assert_allclose(
        lines["exhaustive search"], np.stack([truth.weights, 100 * truth.accuracy], axis=1)
    )
    assert lines["dense networks"][:, 0].tolist() == [27, 44, 560]
    guides = {points_of(line)[0, 1] for line in axes.lines if line.get_linewidth() == 0.5}
    assert guides == {80, 90, 95, 99, 99.5}
    assert guides <= set(axes.get_yticks())
    labels = [text.get_text() for text in figure("frontier").legends[0].get_texts()]
    assert labels[0] == "exhaustive search, n = 32–2,048"
    assert labels[1] == "search from above, n = 900"
    assert labels[3] == "IMP, n = 24"


@pytest.mark.parametrize("empty", ["frontier", "from_above", "methods"])
def test_frontier_draws_what_there_is(empty: str) -> None:
    parts = given("frontier", "default")
    parts[empty] = parts[empty].iloc[:0].astype(object)  # as a CSV file without rows is read
    (axes,) = draw("frontier", **parts).axes
    shown = {label.split(",")[0] for label in curves(axes) if "n = " in label}
    assert ("exhaustive search" in shown) == (empty != "frontier")
    assert ("search from above" in shown) == (empty != "from_above")
    assert ("IMP" in shown) == ("dense networks" in shown) == (empty != "methods")


def test_a_figure_without_rows_says_so() -> None:
    reasons = {}
    for name in MODULES:
        parts = {
            part: value.iloc[:0] if isinstance(value, pd.DataFrame) else value[:0]
            for part, value in given(name, "default").items()
        }
        if name != "spiral":
            (reason,) = draw(name, **parts).texts
            reasons[name] = reason.get_text()
    assert reasons["widths"] == "Nothing to draw: no pruning method is part of this study"
    assert len(set(reasons.values())) >= 5


def test_search_shows_quantiles_and_extent() -> None:
    accuracies, tried, dead = figure("search").axes
    parts = given("search", "default")
    best = curves(accuracies)["best run"]
    np.testing.assert_allclose(best[:, 1], 100 * parts["search_runs"].best)
    np.testing.assert_array_equal(curves(tried)["networks"][:, 1], parts["frontier"].networks)
    np.testing.assert_allclose(points_of(dead.lines[0])[:, 1], 60)


def band(axes: Axes, i: int) -> np.ndarray:
    """Lower and upper edge [2, points] of the i-th band, whose points have different x."""
    vertices = np.asarray(axes.collections[i].get_paths()[0].vertices)
    at = [vertices[vertices[:, 0] == x, 1] for x in np.unique(vertices[:, 0])]
    return np.array([[y.min() for y in at], [y.max() for y in at]])


def bars(axes: Axes) -> list[tuple[float, float, float, float]]:
    """Left, lower end, width and height of each bar."""
    drawn = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    return [(*bar.get_xy(), bar.get_width(), bar.get_height()) for bar in drawn]


def rows_of(table: str, study: str, network: str, method: str) -> pd.DataFrame:
    rows = tables("default")[table]
    chosen = (rows.study == study) & (rows.network == network) & (rows.method == method)
    return rows[chosen].sort_values("target")


def test_search_success_shows_only_accuracies_that_were_reached() -> None:
    table = search_success_table(range(4, 13))
    table.loc[table.accuracy == 0.9, "successes"] = 0
    figure = draw("search_success", search_success=table)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["60%", "70%", "80%"]
    starts, networks = figure.axes
    rows = table[(table.accuracy == 0.6) & (table.successes > 0)]
    shown = np.array(networks.lines[0].get_xydata())
    assert shown[:, 0].tolist() == rows.weights.tolist()
    assert shown[:, 1] == pytest.approx(100 * rows.networks_succeeded / rows.networks)
    assert starts.lines[0].get_ydata() == pytest.approx(100 * rows.rate)


def test_widths_has_a_panel_per_method_and_a_line_per_width() -> None:
    panels = figure("widths").axes
    assert [axes.get_title() for axes in panels] == ["IMP", "IMP-LTH", "SNIP", "magnitude"]
    snip = panels[2]
    for i, network in enumerate(("w3", "w4", "w16")):
        rows = rows_of("methods", "overparameterisation", network, "snip")
        expected = np.stack([rows.target, 100 * rows.accuracy_median], axis=1)
        np.testing.assert_allclose(points_of(snip.lines[i]), expected)
        np.testing.assert_allclose(band(snip, i), 100 * rows[["accuracy_p10", "accuracy_p90"]].T)
    assert figure("widths").legends[0].get_title().get_text() == "width of the network, n = 4 runs"


def test_success_shows_rates_and_intervals_of_two_accuracies() -> None:
    panels = figure("success").axes
    assert len(panels) == 2 * 4
    rows = rows_of("success", "overparameterisation", "w4", "imp")
    for axes, accuracy in zip(panels[:2], (0.8, 0.95), strict=True):
        assert axes.get_ylabel() == f"reach {100 * accuracy:g} %\n(% of runs)"
        reached = rows[rows.accuracy == accuracy]
        np.testing.assert_allclose(points_of(axes.lines[1])[:, 1], 100 * reached.rate)
        np.testing.assert_allclose(band(axes, 1), 100 * reached[["rate_low", "rate_high"]].T)


def test_connectivity_shows_shares_of_weights_runs_and_neurons() -> None:
    """Worked out by hand: two weight matrices, of 3 neurons and the output."""
    methods = rows_of("methods", "overparameterisation", "w3", "imp").iloc[:2]
    methods = methods.assign(target=[10, 12], connected=[0.25, 1])
    #        when, layer, weights, effective, active, constant, dead
    counts = [
        *(("start", 1, 6, 6, 3, 0, 0), ("start", 2, 4, 3, 1, 0, 0)),  # 9 of 10 weights
        *(("end", 1, 3, 1, 1, 0.5, 0.5), ("end", 2, 1, 1, 0, 1, 0)),  # 2 of 4
    ]
    layers = [
        ("overparameterisation", "imp", "w3", target, *row) for target in (10, 12) for row in counts
    ]
    table = pd.DataFrame(layers, columns=COLUMNS["connectivity"])
    drawn = draw("connectivity", connectivity=table, methods=methods)
    weights, runs, neurons = drawn.axes
    start, end = weights.lines
    assert points_of(start).tolist() == [[10, 90], [12, 90]]
    assert points_of(end).tolist() == [[10, 50], [12, 50]]
    assert points_of(runs.lines[0]).tolist() == [[10, 25], [12, 100]]
    left, width = 9.6, 0.8  # without the output:
    of_ten = [(left, 0, width, 50), (left, 50, width, 25), (left, 75, width, 25)]
    np.testing.assert_allclose([bar for bar in bars(neurons) if bar[0] < 10], of_ten)
    assert drawn.legends[1].get_title().get_text() == "neurons at width 3"


def test_connectivity_shows_neurons_of_the_widest_network() -> None:
    parts = given("connectivity", "default")
    layers = parts["connectivity"]
    parts["connectivity"] = layers.assign(dead=layers.dead.where(layers.network == "w16", 100))
    for axes in draw("connectivity", **parts).axes[2::3]:
        heights = {round(height) for _, _, _, height in bars(axes)}
        assert heights == {50, 33, 17}


def test_gap_shows_methods_and_search_of_equal_cost() -> None:
    panels = figure("gap").axes
    assert [axes.get_title() for axes in panels[::2]] == [
        f"{place}\nn = 4 runs of 19,500 steps"
        for place in (
            *("optimal width\nsearched network", "optimal start\nsearched network"),
            "optimal start\nwidth 16",
        )
    ]
    best, median = panels[:2]
    truth = given("gap", "default")["frontier"]
    rows = rows_of("equal_budget", "optimal_width", "searched", "imp_lth")
    for axes, column in ((best, "method_best"), (median, "method_median")):
        search, _, lth = map(points_of, axes.lines[:3])
        np.testing.assert_allclose(search[:, 1], 100 * truth.accuracy)
        np.testing.assert_allclose(lth, np.stack([rows.target, 100 * rows[column]], axis=1))
    labels = [text.get_text() for text in figure("gap").legends[0].get_texts()]
    equal_cost = ["search, equal cost", "search, cost of IMP-LTH"]
    above = "from above, from the given start"
    assert labels == ["exhaustive search", above, *equal_cost, "IMP", "IMP-LTH", "SNIP"]
    beam = given("gap", "default")["from_above"].query("given_start")
    np.testing.assert_allclose(
        points_of(panels[2].lines[1]), np.stack([beam.weights, 100 * beam.accuracy], axis=1)
    )
    dashed, dotted = (
        [points_of(line) for line in best.lines if line.get_linestyle() == look]
        for look in ("--", ":")
    )
    (found,) = dotted
    np.testing.assert_allclose(found[:, 1], 100 * rows.search_expected)  # a gap beyond the search
    searched = rows.search_low.notna()
    np.testing.assert_allclose(band(best, 1), 100 * rows[searched][["search_low", "search_high"]].T)
    assert len(dashed) == 1


def test_gap_of_a_single_study_shows_that_one() -> None:
    titles = [axes.get_title() for axes in figure("gap", "single").axes]
    assert titles[0] == "overparameterisation\nwidth 4\nn = 4 runs of 19,500 steps"


def test_repair_shows_variants_and_controls_against_weights_kept() -> None:
    parts = given("repair", "default")
    methods = parts["methods"]
    kept = methods.weights - 0.5 * (methods.method == "imp_effective")
    drawn = draw("repair", **(parts | {"methods": methods.assign(weights=kept)}))
    assert [axes.get_title() for axes in drawn.axes] == 2 * [
        "optimal width\nsearched network, n = 4",
        "optimal start\nwidth 16, n = 4",
        "overparameterisation\nwidth 16, n = 4",
    ]
    assert [axes.get_ylabel() for axes in drawn.axes[::3]] == [
        *("IMP: accuracy (%)", "IMP-LTH: accuracy (%)")
    ]
    _, *lines = (points_of(line) for line in drawn.axes[2].lines[:4])
    names = ["imp", "imp_effective", "random_imp"]
    for name, line, shift in zip(names, lines, (0, 0.5, 0), strict=True):
        rows = rows_of("methods", "overparameterisation", "w16", name)
        expected = np.stack([rows.target - shift, 100 * rows.accuracy_median], axis=1)
        np.testing.assert_allclose(line, expected)


def test_repair_needs_a_variant() -> None:
    parts = given("repair", "default")
    plain = parts["methods"][~parts["methods"].method.str.endswith("_effective")]
    (reason,) = draw("repair", **(parts | {"methods": plain})).texts
    assert "no method counts effective weights" in reason.get_text()


def test_limits_marks_predictions_and_measurement() -> None:
    bounds = given("limits", "default")["bounds"]
    bounds = bounds[(bounds.network == "net0") & (bounds.rule == "batch_std")]
    rise, accuracy = figure("limits").axes[:2]
    for axes in (rise, accuracy):
        at = {
            xy[0, 0] for xy in map(points_of, axes.lines) if len(xy) == 2 and xy[0, 0] == xy[1, 0]
        }
        # Without what is there to be compared with: A, the trace, isotropic offsets.
        shown = bounds[~bounds.formula.isin(["A", "trace"]) & (bounds.direction != "isotropic")]
        assert len(shown) == 4
        assert at == {*shown.pruning_ratio, bounds.one_shot_ratio.iloc[0]}
    (tolerance,) = {xy[0, 1] for label, xy in curves(rise).items() if "tolerance" in label}
    assert tolerance == 0.004
    assert len(figure("limits").legends[0].get_texts()) == 6


def test_limits_without_predictions_or_with_unresolved_ones() -> None:
    parts = given("limits", "default")
    bare = draw("limits", sweeps=parts["sweeps"], bounds=parts["bounds"].iloc[:0])
    assert len(bare.axes[0].lines) == 1
    titles = [axes.get_title() for axes in figure("limits", "many").axes]
    assert titles[0] == "network: net0\n2 of 4 predictions unresolved"


def test_baselines_shows_methods_and_the_dense_network_and_predictions() -> None:
    parts = given("baselines", "default")
    table, bounds = parts["baselines"], parts["bounds"]
    axes = figure("baselines").axes[1]
    drawn = curves(axes)
    rows = table[(table.network == "net1") & (table.method == "rare_gems_l2")]
    lines = [line for line in drawn.values() if len(line) == 4]
    expected = np.stack([rows.density, 100 * rows.test_accuracy], axis=1)[::-1]
    assert any(np.allclose(line, expected) for line in lines)
    assert len(lines) == len(BASELINES)
    (dense,) = {xy[0, 1] for xy in map(points_of, axes.lines) if len(set(xy[:, 1])) == 1}
    assert dense == 95
    bounds = principal(bounds[(bounds.network == "net1") & (bounds.rule == "batch_std")])
    at = {xy[0, 0] for xy in map(points_of, axes.lines) if len(xy) == 2 and xy[0, 0] == xy[1, 0]}
    assert at == set(1 - bounds.pruning_ratio)
    named = [text.get_text() for text in figure("baselines").legends[0].get_texts()]
    assert {"IMP, with rewinding", "Rare Gems, L2", "Smart-Ratio", "mine"} < set(named)
    assert sum(name.startswith("predicted: ") for name in named) == 4


def test_rounds_shows_each_round_and_how_far_it_could_go() -> None:
    """The densities of the rounds, and of each the measured threshold and two predictions."""
    density, numbers = np.array([1.0, 0.5, 0.2, 0.1]), np.arange(4)
    for axes in figure("rounds").axes:
        lines = list(map(points_of, axes.lines))
        published = np.where(numbers == 3, np.nan, 0.3 * density)
        expected = [density, 0.9 * density, published, 0.2 * density]
        assert len(lines) == len(expected)
        for line, values in zip(lines, expected, strict=True):
            np.testing.assert_allclose(line[:, 1], values)
            np.testing.assert_allclose(line[:, 0], numbers)
    named = [text.get_text() for text in figure("rounds").legends[0].get_texts()]
    assert sum(name.startswith("predicted: ") for name in named) == 2


def test_predictions_shows_every_row_once() -> None:
    for case, resolved, unresolved in (("default", 42, 0), ("many", 40, 16)):
        dots = [line for axes in figure("predictions", case).axes for line in axes.lines]
        predicted = [line for line in dots if line.get_color() != style.BLACK]
        hollow = [line for line in predicted if line.get_markerfacecolor() == "none"]
        assert len(np.concatenate(list(map(points_of, predicted)))) == resolved + unresolved
        assert len(np.concatenate(list(map(points_of, hollow)))) == unresolved
    labels = [text.get_text() for text in figure("predictions").axes[0].get_yticklabels()]
    assert labels == ["0.004 (batch spread)", "0.01", "0.1"]


def test_meeting_draws_truth_once_and_each_width_in_every_panel() -> None:
    axes = figure("meeting").axes
    assert len(axes) == 6
    for panel in axes:
        black = [line for line in panel.lines if line.get_color() == style.BLACK]
        known = next(line for line in black if line.get_marker() == "o")
        assert points_of(known).tolist() == [[i, 12 + i] for i in range(5)]
        pruned = [line for line in panel.lines if line.get_marker() == "X"]
        assert points_of(pruned[0])[:, 1].tolist() == [20, 21, 22, 23, 24]
        predicted = [
            points_of(line)[:, 1]
            for line in panel.lines
            if line not in (*black, *pruned) and line.get_marker() != "None"
        ]
        # What nothing need stay of stands below 1; nothing stands where there is no prediction.
        assert [line[:2].tolist() for line in predicted] == [[0.4, w] for w in (3, 4, 16)]
        assert [np.isnan(line.astype(float)).sum() for line in predicted] == [0, 0, 1]
        labels = [text.get_text() for text in panel.get_xticklabels()]
        made = [3, 3, 3, 3, 2] if panel.get_title() == "corrected B, Hessian" else [6, 6, 6, 6, 4]
        levels = ["80", "90", "95", "99", "99.5"]
        assert labels == [f"{level}\n{n}/6" for level, n in zip(levels, made, strict=True)]


def test_meeting_says_where_nothing_is_predicted() -> None:
    """As by a formula that needs a positive curvature where every Hessian is indefinite."""
    table = given("meeting", "default")["meeting"].copy()
    refused = (table.operator == "hessian") & (table.formula == "B")
    table.loc[refused, "predicted"] = 0
    table.loc[refused, ["predicted_weights", "predicted_low", "predicted_high"]] = np.nan
    told = {
        axes.get_title(): [text.get_text() for text in axes.texts]
        for axes in draw("meeting", meeting=table).axes
    }
    assert told.pop("corrected B, Hessian") == ["no prediction"]
    assert not any(told.values())
    (text,) = draw("meeting", meeting=table.assign(predicted=0)).texts
    assert "no prediction for these networks" in text.get_text()


@pytest.mark.parametrize(("first", "ends"), [(4, 12), (10, 12), (12, 4)])
def test_meeting_leaves_open_what_was_not_searched_in_vain(first: int, ends: int) -> None:
    table = given("meeting", "default")["meeting"].assign(searched_from=first)
    axes = draw("meeting", meeting=table).axes[0]
    bars = next(part for part in axes.collections if isinstance(part, LineCollection))
    assert {segment[:, 1].min() for segment in bars.get_segments()} == {ends}


def test_geometry_puts_a_formula_that_is_right_on_the_diagonal() -> None:
    for axes in figure("geometry").axes:
        dots = [line for line in axes.lines if line.get_marker() not in ("None", "")]
        corrected = [line for line in dots if line.get_color() == style.BLUE]
        assert len(dots) == 2 * len(corrected) == 6
        for line in corrected:
            np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())


def test_geometry_states_the_verdict() -> None:
    for axes in figure("geometry").axes:
        _, published, corrected, allowed = axes.get_title().splitlines()
        assert published == "published off by 0.456, rms 0.114"
        assert corrected == "corrected off by 0.012, rms 0.003"
        assert allowed == "(allowed: 0.015)"


def test_cone_shows_computed_hits_and_both_formulas() -> None:
    plane, sphere, many = figure("cone").axes
    table = given("cone", "default")["cone"]
    lines = {line.get_color(): points_of(line) for line in many.lines}
    np.testing.assert_allclose(lines[style.BLUE][:, 1], 1 - table.corrected)
    np.testing.assert_allclose(lines[style.VERMILLION][:, 1], 1 - table.published)
    assert many.get_title().startswith("D = 40:")
    # In the plane the share of lines is the cone's angle, by its tangents to the ellipse.
    angles = np.linspace(0, np.pi, 100_000)
    lines_drawn = np.stack([np.cos(angles), np.sin(angles)])
    stiffness, center = np.array([1.0, 0.16]), np.array([1.7, 2.0])
    nearest = (lines_drawn.T @ (stiffness * center)) ** 2 / (stiffness @ lines_drawn**2)
    share = np.mean(stiffness @ center**2 - nearest <= 1)
    assert plane.get_title().startswith(f"two weights: {share:.0%} of")
    hits = [line.get_color() == style.GREEN for line in plane.lines if line.get_linewidth() == 0.8]
    assert 0 < sum(hits) < len(hits)
    assert "lines and" in sphere.get_title()


def test_sensitivity_shows_every_variant_against_tolerance_and_scale() -> None:
    parts = given("sensitivity", "default")
    curves_of, scales_of = figure("sensitivity").axes[:2]
    rows = parts["sensitivity"][parts["sensitivity"].network == "net0"]
    of_epsilon = rows[(rows.varied == "epsilon") & (rows.formula == "A")]
    drawn = [points_of(line) for line in curves_of.lines if line.get_color() == style.SKY]
    np.testing.assert_allclose(drawn[0], of_epsilon[["epsilon", "pruning_ratio"]])
    of_scale = rows[(rows.varied == "scale") & (rows.rule == "batch_std") & (rows.formula == "A")]
    drawn = [points_of(line) for line in scales_of.lines if line.get_color() == style.SKY]
    np.testing.assert_allclose(drawn[0], of_scale[["scale", "pruning_ratio"]])
    black = [line for line in curves_of.lines if line.get_color() == style.BLACK]
    assert len(black) == 2
    assert len(scales_of.lines) == len(VARIANTS)
    assert [axes.get_title() for axes in figure("sensitivity").axes[::2]] == [
        *("network: net0", "network: net1")
    ]


def test_gaps_shows_every_difference_once() -> None:
    table = given("gaps", "default")["gaps"]
    for axes, column in zip(
        figure("gaps").axes,
        ("above_reoptimised", "above_one_shot", "above_one_shot_by_accuracy"),
        strict=True,
    ):
        dots = np.concatenate([points_of(line) for line in axes.lines[1:]])
        np.testing.assert_allclose(sorted(dots[:, 0]), sorted(table[column]))
    labels = [text.get_text() for text in figure("gaps", "many").axes[0].get_yticklabels()]
    assert labels[0] == "published, Hessian, |λ|\n(8 of 8 unresolved)"


def test_penalties_has_a_panel_for_each_penalty() -> None:
    l1, accuracy, decay = figure("penalties").axes[:3]
    table = given("penalties", "default")["penalties"]
    rows = table[(table.rule == "batch_std") & (table.weight_decay == 0)]
    means = rows.groupby("l1").published.mean()
    line, dots = (points_of(each) for each in l1.lines[:2])
    np.testing.assert_allclose(line, np.stack([range(4), means], axis=1))
    np.testing.assert_allclose(sorted(dots[:, 1]), sorted(rows.published))
    assert accuracy.get_xlabel() == "L1 penalty"
    assert [text.get_text() for text in accuracy.get_xticklabels()] == [
        "0",
        "0.0001",
        "0.001",
        "0.01",
    ]
    assert figure("penalties").axes[3].get_xlabel() == "weight decay"
    assert decay.get_title() == "fc 20 20, n = 2"
    one_less = draw("penalties", penalties=table[~((table.l1 == 0.01) & (table.index % 4 == 0))])
    assert one_less.axes[0].get_title() == "fc 20 20, n = 1–2"
    alone = draw("penalties", penalties=table[(table.l1 == 0) & (table.weight_decay == 0)])
    assert "no two networks differ" in alone.texts[0].get_text()


def test_weights_shows_the_histogram_and_faint_rows_on_the_axis() -> None:
    table = given("weights", "default")["rows"].copy()
    table.loc[table.network == "net0", "row_norm_p10"] = 0
    histogram, norms = draw("weights", rows=table).axes[:2]
    rows = table[(table.network == "net0") & (table.operator == "hessian")]
    assert sorted(height for _, _, _, height in bars(histogram)) == sorted(rows.share)
    assert sorted(left for left, _, _, _ in bars(histogram)) == sorted(rows.magnitude_low)
    np.testing.assert_allclose(points_of(norms.lines[0])[:, 1], rows.row_norm_median)
    assert band(norms, 0)[0] == pytest.approx(norms.get_ylim()[0])


def test_variation_shows_every_pair_in_its_row() -> None:
    (axes,) = figure("variation").axes
    table = given("variation", "default")["variation"]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[:3] == [
        *("weights, other seed", "weights, other recipe"),
        "eigenvalues of the Hessian, other probe",
    ]
    assert len(labels) == 8
    dots = np.concatenate([points_of(line) for line in axes.lines[::2]])
    np.testing.assert_allclose(dots[:, 0], table.distance)
    np.testing.assert_array_equal(dots[:, 1].round().astype(int), np.repeat(range(8), 3))


def test_spectra_draws_both_operators() -> None:
    for axes in figure("spectra").axes:
        assert axes.get_yscale() == "log"
        assert {label for label in curves(axes) if not label.startswith("_")} == {
            "Hessian",
            "Gauss–Newton",
        }


def test_sparsest_spreads_over_the_numbers_of_weights() -> None:
    titles = [axes.get_title() for axes in figure("sparsest").axes[:5]]
    assert titles[0] == "4 weights: 55.00 %"
    assert [int(title.split()[0]) for title in titles] == [4, 6, 7, 8, 10]


def test_sparsest_graph_and_region_of_a_known_network() -> None:
    parts = given("sparsest", "single")
    graph, plane = draw("sparsest", **parts).axes
    edges = [line for line in graph.lines if line.get_marker() != "o"]
    assert len(edges) == parts["mask"].sum() == 9
    negative = [line for line in edges if line.get_color() == style.PURPLE]
    assert len(negative) == 3
    # The logit is x1 - x2: class 1 below the diagonal.
    (image,) = plane.images
    left, right, lower, upper = image.get_extent()
    pixels = np.asarray(image.get_array())
    rows, columns = np.indices(pixels.shape[:2])
    x1 = left + (right - left) * columns / (pixels.shape[1] - 1)
    x2 = lower + (upper - lower) * rows / (pixels.shape[0] - 1)
    orange = pixels[..., 2] < pixels[..., 0]
    far = abs(x1 - x2) > 1e-6
    np.testing.assert_array_equal(orange[far], (x1 > x2)[far])


def test_sparsest_refuses_arrays_of_another_file() -> None:
    parts = given("sparsest", "default")
    with pytest.raises(InputError, match="7 rows in frontier, 6 masks"):
        draw("sparsest", **(parts | {"mask": parts["mask"][1:]}))


def test_neurons_are_ordered_to_cross_little() -> None:
    swapped = np.array([[0, 1], [1, 0]])
    straight = neuron_heights([swapped, np.array([[1, 1]])])
    assert [layer.tolist() for layer in straight] == [[0.5, -0.5], [-0.5, 0.5], [0]]
    unfed = neuron_heights([np.zeros((3, 1))])
    assert unfed[1].tolist() == [1, 0, -1]


# --- The registry ---------------------------------------------------------------------------------


def test_registry_tells_what_is_wrong() -> None:
    with pytest.raises(InputError, match="'frontiers' is unknown: use one of answer, spiral"):
        draw("frontiers")
    with pytest.raises(InputError, match="widths is drawn from methods; given is nothing"):
        draw("widths")
    lacking = given("widths", "default")["methods"].drop(columns=["network", "runs"])
    with pytest.raises(InputError, match="widths: table methods lacks network, runs"):
        draw("widths", methods=lacking)


def test_every_figure_and_table_of_the_registry_is_used() -> None:
    parts = {part for name in MODULES for part in given(name, "single")}
    assert parts >= COLUMNS.keys()
    assert parts - COLUMNS.keys() == {"x", "y", "sizes", "mask", "parameters", "met"}


def test_certificate_shows_the_tables_and_the_power_of_the_largest_networks() -> None:
    parts = certificate_tables(range(8, 13))
    excluded, found = draw("certificate", **parts).axes
    for lines, table in ((excluded, parts["exclusion"]), (found, parts["power"])):
        assert len(lines.get_lines()) >= table.accuracy.nunique()
    at_80 = parts["exclusion"][parts["exclusion"].accuracy == 0.8]
    np.testing.assert_allclose(points_of(excluded.lines[0])[:, 1], 100 * at_80.excluded_rate)
    power = parts["power"]
    curve = power[(power.weights == 12) & (power.accuracy == 0.8)]
    np.testing.assert_allclose(points_of(found.lines[0])[:, 1], 100 * curve.probability)
    assert found.get_ylabel().endswith("12 weights")


def test_outcomes_adds_up_to_all_runs_of_a_source() -> None:
    parts = given("outcomes", "default")
    (axes,) = figure("outcomes").axes
    ends: dict[float, float] = {}
    for bar in axes.patches:
        assert isinstance(bar, Rectangle)
        ends[round(bar.get_y(), 3)] = ends.get(round(bar.get_y(), 3), 0) + bar.get_width()
    assert list(ends.values()) == pytest.approx([100] * len(ends))
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert len(labels) == len(ends)
    table = parts["outcomes"]
    assert labels[0] == f"exhaustive search, n = {table[table.source == 'search'].runs.sum()}"
    assert labels[-1].startswith("blocks, as published")


def test_stuck_shows_where_weights_are_lost_on_the_widest_network() -> None:
    parts = given("stuck", "default")
    axes = next(axes for axes in figure("stuck").axes[1::2])
    table = parts["connectivity"]
    here = table[(table.study == "overparameterisation") & (table.network == "w16")]
    imp = here[(here.method == "imp") & (here.when == "end") & (here.target == 8)]
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    first = [bar for bar in bars if bar.get_x() == min(bar.get_x() for bar in bars)]
    lost = 100 * (imp.weights - imp.effective_weights) / imp.weights.sum()
    assert [bar.get_height() for bar in first] == pytest.approx(lost.tolist())


def test_answer_shows_what_is_known_and_what_was_searched_in_vain() -> None:
    table = given("answer", "many")["answers"]
    (axes,) = figure("answer", "many").axes
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    assert [bar.get_width() for bar in bars] == table.searched_below.tolist()
    lines = [line for line in axes.lines if line.get_marker() in ("o", "X", "D")]
    for line, who in zip(lines, ("known", "method", "predicted"), strict=True):
        at = points_of(line)[:, 0].astype(float)
        np.testing.assert_array_equal(at, table[f"{who}_weights"])
    low, high = axes.get_xlim()
    assert low == 0
    assert high > table.predicted_high.max()


def test_answer_shows_no_more_than_was_searched() -> None:
    """A search that begins late leaves what is sparser white; one whose least suffices all."""
    table = given("answer", "many")["answers"].assign(searched_from=10)
    (axes,) = draw("answer", answers=table).axes
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    assert {bar.get_x() for bar in bars} == {10}
    assert [bar.get_width() for bar in bars] == [0, 2, 4, 8, 8]


def test_overparameterisation_has_a_panel_for_each_target_and_a_line_for_each_method() -> None:
    table = given("overparameterisation", "default")["methods"]
    drawn = figure("overparameterisation")
    assert [axes.get_title() for axes in drawn.axes] == [
        f"{target} weights kept" for target in (8, 10, 14, 32)
    ]
    styles = style.series(["imp", "imp_lth", "snip", "magnitude"])
    rows = table[(table.study == "overparameterisation") & (table.target == 14)]
    lines = [line for line in drawn.axes[2].lines if line.get_marker() not in ("None", "")]
    for line, name in zip(lines, styles, strict=True):
        expected = [
            100 * rows[(rows.method == name) & (rows.network == f"w{width}")].accuracy_median.item()
            for width in (3, 4, 16)
        ]
        np.testing.assert_allclose(points_of(line), np.stack([range(3), expected], axis=1))
