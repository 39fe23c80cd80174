"""The explorer: what it holds, and in a real browser what it computes and shows."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from sparselimit import explorer, scoring, store
from sparselimit.ensemble.members import Points
from sparselimit.explorer import OWN, Entry
from sparselimit.figures import style
from sparselimit.networks.mlp import MLP
from sparselimit.search.verification import accuracy
from sparselimit.spiral import Grid, content, train_runs
from tests import browsing
from tests.unit.refusals import refused

ROOT = Path(__file__).parents[2]
BEAM = ROOT / "docs" / "results" / "beam.h5"
PARTS = ROOT / "report" / "explorer"

# Scripts that are run in the page: choose every network of the source that is chosen and read what
# is said of it; every 997th pixel of the plane, of all signals and of the picture; which parts of
# the page lie over each other, and how wide it is.
EVERY_NETWORK = """
const select = document.getElementById("network");
return [...select.options].map(({ value }) => {
  select.value = value;
  select.dispatchEvent(new Event("change"));
  return ["accuracy", "correct", "counts"].map((id) => document.getElementById(id).textContent);
});
"""
SIGNALS_AND_PIXELS = """
const some = (values) => Array.from(values).filter((_, i) => i % 997 === 0);
const { onPlane, view } = explorer.page;
const { width, height } = view.picture;
const { data } = view.picture.getContext("2d").getImageData(0, 0, width, height);
const redAndBlue = Array.from({ length: width * height }, (_, i) => [data[4 * i], data[4 * i + 2]]);
return [
  onPlane.values[0].map(some), onPlane.values.map((layer) => layer.map(some)), some(redAndBlue)
];
"""
OVERLAPS_AND_REACH = """
const parts = [...document.querySelectorAll("main section, .all")];
const apart = (a, b) =>
  a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
const overlaps = parts.flatMap((one, i) =>
  parts.slice(i + 1)
    .filter((other) => !apart(one.getBoundingClientRect(), other.getBoundingClientRect()))
    .map((other) => `${one.className} ${other.className}`),
);
return [overlaps, document.documentElement.scrollWidth];
"""


def entry(
    sizes: tuple[int, ...] = (2, 6, 5, 4, 1),
    density: float = 0.3,
    seed: int = 0,
    **facts: Any,
) -> Entry:
    """A random sparse network, which some neurons may have no part in."""
    network, rng = MLP(sizes), np.random.default_rng(seed)
    mask = rng.random(network.n_weights) < density
    mask[0] = True
    parameters = rng.normal(size=network.n_parameters).astype(np.float32)
    parameters[: network.n_weights][~mask] = 0
    given = {"source": "imp", "stated": None, "origin": "a test"} | facts
    return Entry(network=network, mask=mask, parameters=parameters, **given)


def outputs(network: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """What a network of the page gives for points [n, 2], edge by edge."""
    signal = list(x.T.astype(np.float64))
    for layer, biases in enumerate(network["biases"]):
        sums = [np.full(len(x), np.float64(np.float32(bias))) for bias in biases]
        for at, to, source, weight in network["edges"]:
            if at == layer:
                sums[to] += np.float32(weight).astype(np.float64) * signal[source]
        signal = [values.clip(min=0) for values in sums]
    return sums[0]


def forward(network: MLP, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The same of a flat vector, by matrices."""
    signal = x.T.astype(np.float64)
    weights = network.weights(parameters.astype(np.float64))
    for weight, bias in zip(weights, network.biases(parameters), strict=True):
        sums = weight @ signal + bias[:, None]
        signal = sums.clip(min=0)
    return sums[0]


@pytest.mark.parametrize("seed", range(8))
def test_a_network_of_the_page_is_the_one_of_the_file(spiral: Points, seed: int) -> None:
    given = entry(sizes=(2, 9, 8, 7, 1), density=0.15, seed=seed)
    found = explorer.described(explorer.compact(given), spiral)
    x = spiral.x.numpy()[::50]
    expected = forward(given.network, given.parameters, x)
    np.testing.assert_allclose(outputs(found, x), expected, rtol=1e-12, atol=1e-12)
    assert found["weights"] == len(found["edges"]) == given.mask.sum()
    right = (forward(given.network, given.parameters, spiral.x.numpy()) > 0) == spiral.y.numpy()
    assert found["correct"] == right.sum()


def test_neurons_without_a_weight_are_left_out(spiral: Points) -> None:
    network = MLP((2, 3, 3, 3, 1))
    mask = np.zeros(network.n_weights, dtype=bool)
    parameters = np.zeros(network.n_parameters, dtype=np.float32)
    for layer, place in enumerate([(1, 0), (2, 1), (0, 2), (0, 0)]):
        network.weights(mask)[layer][place] = True
        network.weights(parameters)[layer][place] = layer + 0.5
    parameters[network.n_weights :] = 0.25
    given = Entry("imp", network, mask, parameters, None, "")
    found = explorer.described(explorer.compact(given), spiral)
    assert found["sizes"] == (2, 1, 1, 1, 1)
    assert found["shape"] == (2, 3, 3, 3, 1)
    assert found["edges"] == [[layer, 0, 0, layer + 0.5] for layer in range(4)]


def test_a_network_without_weights_keeps_its_layers(spiral: Points) -> None:
    network = MLP((2, 2, 2, 2, 1))
    nothing = Entry("imp", network, np.zeros(14, bool), np.ones(21, np.float32), None, "")
    found = explorer.described(explorer.compact(nothing), spiral)
    assert found["sizes"] == (2, 1, 1, 1, 1)
    assert found["correct"] == (spiral.y == 1).sum()


def test_numbers_are_short_and_exact() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 5000, dtype=np.uint32)
    values = bits.view(np.float32)
    for value in values[np.isfinite(values)]:
        short = explorer._short(value)
        assert np.float32(short) == value
        assert len(repr(short).lstrip("-").replace(".", "").split("e")[0].strip("0")) <= 9


def test_the_best_of_each_source_and_size() -> None:
    facts = [("imp", 0, 0.7), ("imp", 0, 0.8), ("snip", 0, 0.6), ("imp", 1, 0.5)]
    given = [entry(source=source, seed=seed, stated=stated) for source, seed, stated in facts]
    own = [entry(source=OWN, origin=name) for name in ("a.npz", "b.npz")]
    large = entry(sizes=(2, 30, 30, 30, 1), density=1)
    found = explorer.best([*given, large, *own])
    kept = [(one.source, one.weights, one.stated) for one in found]
    sizes = sorted([(given[1].weights, 0.8), (given[3].weights, 0.5)])
    expected = [(OWN, own[0].weights, None)] * 2 + [("imp", *size) for size in sizes]
    assert kept == [*expected, ("snip", given[2].weights, 0.6)]


def test_runs_of_methods_come_without_controls_and_diverged_ones(
    tmp_path: Path, spiral: Points
) -> None:
    grid = Grid([6], [0.05], ["cosine"], 2, epochs=1, batch_size=1000)
    network = MLP((2, 2, 2, 2, 1))
    parts = []
    for method in ("imp", "random_imp"):
        table = grid.runs("w2").assign(method=method)
        start = torch.tensor(np.random.default_rng(3).normal(size=(2, 21)), dtype=torch.float32)
        mask = torch.ones(2, 14, dtype=torch.bool)
        parts.append(train_runs(network, grid, table, spiral, start, mask, backend="batched"))
    runs = content(parts)
    given = runs["runs"]
    assert isinstance(given, pd.DataFrame)
    given.loc[1, "diverged_at"] = 7
    path = tmp_path / "some_study" / "imp.h5"
    store.write(path, "spiral-runs", runs, config={})
    (found,) = explorer.entries(store.read(path, *explorer.FILE_KINDS))
    assert (found.source, found.weights) == ("imp", 14)
    assert found.origin == "study some study, learning rate 0.05, cosine schedule, seed 0"
    assert found.stated == pytest.approx(accuracy(network, found.parameters, spiral), abs=1e-4)


def test_networks_of_the_search_come_in_their_own_shape(spiral: Points) -> None:
    stored = store.read(BEAM, "beam")
    found = list(explorer.entries(stored))
    table = stored.table("by_weights")
    assert [one.weights for one in found] == table.weights.tolist()
    for one, row in zip(found, table.to_dict("records"), strict=True):
        assert one.network.sizes == (2, row["d1"], row["d2"], row["d3"], 1)
        assert accuracy(one.network, one.parameters, spiral) == row["accuracy"]


def test_an_accuracy_that_is_not_that_of_the_weights_is_refused(spiral: Points) -> None:
    with refused("accuracy 0.5", "not 0.9", "run its step again"):
        explorer.page([entry(stated=0.9)], spiral, PARTS)


def test_no_network_and_no_parts_are_refused(spiral: Points, tmp_path: Path) -> None:
    with refused("no network to show"):
        explorer.page([], spiral, PARTS)
    with refused(str(tmp_path), "cannot be read"):
        explorer.page([entry()], spiral, tmp_path)


def sources_of(page: str) -> list[dict[str, Any]]:
    data = re.search(r'id="networks">(.*?)</script>', page, re.S)
    assert data
    found: list[dict[str, Any]] = json.loads(data[1])
    return found


def test_a_page_that_is_full_leaves_the_largest_out(
    spiral: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = entry(density=1, source=OWN)
    given = [own, *(entry(density=density) for density in (0.2, 0.5, 0.9))]
    whole = explorer.page(given, spiral, PARTS)
    assert len(whole.encode()) <= explorer.MOST_BYTES
    monkeypatch.setattr(explorer, "MOST_BYTES", len(whole.encode()) - 1)
    left = [
        n["weights"] for s in sources_of(explorer.page(given, spiral, PARTS)) for n in s["networks"]
    ]
    assert left == [one.weights for one in given[:-1]]


def test_names_cannot_break_out_of_the_page(spiral: Points) -> None:
    origin = "</script><script>alert(1)</script>.npz"
    page = explorer.page([entry(source=OWN, origin=origin)], spiral, PARTS)
    assert origin not in page
    assert sources_of(page)[0]["networks"][0]["origin"] == origin


def test_markers_are_drawn_as_in_the_figures() -> None:
    for series in style.series(["search", "imp", "snip", "grasp", "force", "rigl"]).values():
        outline = explorer._outline(series.marker)
        assert re.fullmatch(r"M[-\d. ]+([LCQ][-\d. ]+|Z)+", outline)
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", outline)]
        assert max(map(abs, numbers)) == 1
        assert outline.count("M") == 1


def own_file(
    folder: Path, *, weights: bool = True, sizes: tuple[int, ...] = (2, 6, 5, 4, 1)
) -> Path:
    """A network of one's own, as arrays."""
    given = entry(sizes=sizes, density=0.6, seed=5)
    arrays = {f"mask_{i}": mask for i, mask in enumerate(given.network.weights(given.mask))}
    if weights:
        values = given.network.weights(given.parameters)
        arrays |= {f"weight_{i}": value for i, value in enumerate(values)}
        biases = given.network.biases(given.parameters)
        arrays |= {f"bias_{i}": value for i, value in enumerate(biases)}
    np.savez(folder / "mine.npz", **arrays)  # type: ignore[arg-type]
    return folder / "mine.npz"


def test_a_network_of_ones_own_needs_weights_and_a_size_to_be_drawn(tmp_path: Path) -> None:
    given = entry(density=0.6, seed=5)
    own = explorer.own_network(own_file(tmp_path))
    assert (own.source, own.origin) == (OWN, "mine.npz")
    np.testing.assert_array_equal(own.parameters, given.parameters)
    with refused("mine.npz", "masks alone", "steps/score.py"):
        explorer.own_network(own_file(tmp_path, weights=False))
    with refused("mine.npz", "the page draws up to 600"):
        explorer.own_network(own_file(tmp_path, sizes=(2, 30, 30, 30, 1)))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The explorer of the project's largest runs and a network of one's own."""
    folder = tmp_path_factory.mktemp("explorer")
    command = [sys.executable, "steps/explorer.py", str(BEAM), "--network", str(own_file(folder))]
    command += ["--output", str(folder / "explorer.html")]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder / "explorer.html"


@pytest.fixture
def shown(browser: WebDriver, page: Path) -> Iterator[WebDriver]:
    """The page, opened; whatever a test does there makes no error and asks nothing of a network."""
    browsing.errors(browser), browsing.requests(browser)
    browser.set_window_size(1400, 1000)
    browser.get(page.as_uri())
    yield browser
    assert browsing.errors(browser) == []
    assert browsing.requests(browser) == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def correct(browser: WebDriver) -> int:
    """How many points are right, as the page says, after it has drawn."""
    text = browser.execute_async_script(
        "const done = arguments[0];"
        "requestAnimationFrame(() => requestAnimationFrame("
        "  () => done(document.getElementById('correct').textContent)));"
    )
    return int(text.split(" of ")[0].replace(",", ""))


def select(browser: WebDriver, field: str, text: str) -> None:
    Select(browser.find_element(By.ID, field)).select_by_visible_text(text)


def pick(browser: WebDriver, source: str, weights: int) -> None:
    select(browser, "source", source)
    options = Select(browser.find_element(By.ID, "network")).options
    (text,) = [o.text for o in options if o.text.startswith(f"{weights} weights")]
    select(browser, "network", text)


def now_correct(network: dict[str, Any], points: Points) -> int:
    right = (outputs(network, points.x.numpy()) > 0) == points.y.numpy().astype(bool)
    return int(right.sum())


@pytest.mark.browser
def test_the_page_makes_the_points_of_the_project(shown: WebDriver, spiral: Points) -> None:
    x, y = shown.execute_script(
        "const {x, y} = explorer.spiral; return [x.map((v) => Array.from(v)), Array.from(y)];"
    )
    assert np.array_equal(np.array(x).T, spiral.x.numpy().astype(np.float64))
    assert np.array_equal(y, spiral.y.numpy())


@pytest.mark.browser
def test_the_accuracy_of_every_network_is_the_stored_one(shown: WebDriver) -> None:
    table = store.read(BEAM, "beam").table("by_weights")
    found = {}
    for source in Select(shown.find_element(By.ID, "source")).options:
        shown.execute_script(
            "const [s, text] = arguments;"
            "s.value = [...s.options].find((o) => o.text === text).value;"
            "s.dispatchEvent(new Event('change'));",
            *(shown.find_element(By.ID, "source"), source.text),
        )
        found[source.text] = shown.execute_script(EVERY_NETWORK)
    assert list(found) == ["your network", "search from above"]
    lines = [
        (f"{100 * share:.3f} %", f"{share * 49982:,.0f} of 49,982 points", f"{weights} weights")
        for share, weights in zip(table.accuracy, table.weights, strict=True)
    ]
    shown_lines = [(a, c, counts.split(",")[0]) for a, c, counts in found["search from above"]]
    assert shown_lines == lines


@pytest.mark.browser
def test_neurons_and_regions_are_those_of_the_network(shown: WebDriver) -> None:
    """Every signal over the plane by matrices, and the colours that the region is drawn in."""
    pick(shown, "search from above", 18)
    (network,) = [one for one in explorer.entries(store.read(BEAM, "beam")) if one.weights == 18]
    x, signals, pixels = shown.execute_script(SIGNALS_AND_PIXELS)
    x = np.array(x).T
    expected = forward(network.network, network.parameters, x)
    np.testing.assert_allclose(signals[-1][0], expected, rtol=1e-9, atol=1e-9)
    red, blue = np.array(pixels).T
    assert np.array_equal(red > blue, expected > 0)  # orange or blue
    # The neurons of a layer may be drawn in another order than they are stored in.
    first = (x @ network.network.weights(network.parameters.astype(float))[0].T).T
    first = (first + network.network.biases(network.parameters)[0][:, None]).clip(min=0)
    order = np.lexsort(first.T)
    mine = np.array(signals[1])
    np.testing.assert_allclose(mine[np.lexsort(mine.T)], first[order], rtol=1e-9, atol=1e-9)


@pytest.mark.browser
def test_an_edge_is_cut_and_restored_and_all_is_reset(shown: WebDriver, spiral: Points) -> None:
    pick(shown, "search from above", 16)
    found = shown.execute_script("return explorer.page.found")
    before = correct(shown)
    assert before == found["correct"]
    reset = shown.find_element(By.ID, "reset")
    assert not reset.is_enabled()
    for place, (layer, to, source, _) in enumerate(found["edges"]):
        edge = shown.find_element(By.CSS_SELECTOR, f"[data-edge='{layer},{to},{source}']")
        shown.execute_script("arguments[0].dispatchEvent(new Event('click'))", edge)
        button = shown.find_element(By.CSS_SELECTOR, ".row.chosen button")
        button.click()
        others = found | {"edges": [e for i, e in enumerate(found["edges"]) if i != place]}
        assert correct(shown) == now_correct(others, spiral)
        assert "cut" in str(edge.get_attribute("class"))
        assert reset.is_enabled()
        if place % 2:
            button.click()
            assert correct(shown) == before
            assert button.text == "Cut"
        else:
            reset.click()
            assert correct(shown) == before
            assert not reset.is_enabled()


@pytest.mark.browser
def test_an_edge_that_is_cut_can_be_restored_later(shown: WebDriver) -> None:
    pick(shown, "search from above", 17)
    before = correct(shown)
    shown.find_element(By.ID, "smallest").click()
    assert correct(shown) != before
    title = shown.find_element(By.ID, "neuron-title").text
    shown.find_elements(By.CSS_SELECTOR, ".node")[0].click()
    shown.find_element(By.CSS_SELECTOR, f".node[aria-label='{title}']").click()
    shown.find_element(By.CSS_SELECTOR, ".row.cut button").click()
    assert correct(shown) == before


@pytest.mark.browser
def test_a_weight_and_a_bias_are_moved(shown: WebDriver, spiral: Points) -> None:
    pick(shown, "search from above", 14)
    found = shown.execute_script("return explorer.page.found")
    last = next(e for e in found["edges"] if e[0] == 3)
    number = shown.find_elements(By.CSS_SELECTOR, "#neuron input[type=number]")
    number[1].clear()
    number[1].send_keys("-0.75")
    last[3] = -0.75
    assert correct(shown) == now_correct(found, spiral)
    number[0].clear()
    number[0].send_keys("0.125")
    found["biases"][3][0] = 0.125
    assert correct(shown) == now_correct(found, spiral)
    slider = shown.find_elements(By.CSS_SELECTOR, "#neuron input[type=range]")[0]
    slider.send_keys(Keys.END)
    found["biases"][3][0] = float(str(slider.get_property("value")))
    assert found["biases"][3][0] > 1
    assert correct(shown) == now_correct(found, spiral)
    shown.find_element(By.CSS_SELECTOR, ".all summary").click()
    rows = shown.find_elements(By.CSS_SELECTOR, "tr.changed")
    changed = [row.find_elements(By.TAG_NAME, "td")[1].text for row in rows]
    assert len(changed) == 2
    assert "bias" in changed


@pytest.mark.browser
def test_the_smallest_weights_are_cut_one_after_the_other(shown: WebDriver, spiral: Points) -> None:
    """As magnitude pruning does; the small plot shows the way."""
    pick(shown, "search from above", 15)
    found = shown.execute_script("return explorer.page.found")
    button = shown.find_element(By.ID, "smallest")
    for left in range(14, -1, -1):
        found["edges"].remove(min(found["edges"], key=lambda edge: abs(edge[3])))
        button.click()
        assert correct(shown) == now_correct(found, spiral)
        assert shown.find_element(By.ID, "counts").text.startswith(f"{left} weights")
    assert not button.is_enabled()
    way = shown.find_element(By.CSS_SELECTOR, "#map .way").get_attribute("d")
    assert str(way).count("L") == 15
    shown.find_element(By.ID, "reset").click()
    assert shown.find_element(By.ID, "counts").text.startswith("15 weights")


@pytest.mark.browser
def test_an_edge_is_added(shown: WebDriver, spiral: Points) -> None:
    pick(shown, "search from above", 13)
    found = shown.execute_script("return explorer.page.found")
    there = {tuple(edge[:3]) for edge in found["edges"]}
    to, source = next(
        (to, s) for to in range(found["sizes"][1]) for s in (0, 1) if (0, to, s) not in there
    )
    shown.execute_script("explorer.page.choose(1, arguments[0])", to)
    Select(shown.find_element(By.CSS_SELECTOR, ".add select")).select_by_value(str(source))
    assert correct(shown) == found["correct"]  # its weight is zero
    number = shown.find_element(By.CSS_SELECTOR, ".row.chosen input[type=number]")
    number.clear()
    number.send_keys("1.5")
    found["edges"].append([0, to, source, 1.5])
    assert correct(shown) == now_correct(found, spiral)
    assert shown.find_element(By.ID, "counts").text.startswith("14 weights")


@pytest.mark.browser
def test_what_is_saved_is_read_by_numpy(shown: WebDriver, spiral: Points, tmp_path: Path) -> None:
    select(shown, "source", "your network")
    shown.find_element(By.CSS_SELECTOR, ".row button").click()
    browsing.saving_to(shown, tmp_path)
    right = correct(shown)
    shown.find_element(By.ID, "save").click()
    weights = entry(density=0.6, seed=5).weights - 1
    file = tmp_path / f"network-of-{weights}-weights.npz"
    browsing.saved(shown, file)
    candidate = scoring.read_candidate(file)
    assert candidate.weights == weights
    found = explorer.own_network(file)
    assert round(accuracy(found.network, found.parameters, spiral) * len(spiral.y)) == right


@pytest.mark.browser
def test_it_is_used_by_keyboard_and_everything_has_a_name(shown: WebDriver) -> None:
    nameless = shown.execute_script(
        "return [...document.querySelectorAll('button, input, select, canvas[role], svg[role]')]"
        ".filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim()))"
        ".map((e) => e.outerHTML);"
    )
    assert nameless == []
    nodes = shown.find_elements(By.CSS_SELECTOR, ".node")
    for node in nodes:
        node.send_keys(Keys.ENTER)
        assert node.get_attribute("aria-pressed") == "true"
        name = node.accessible_name
        assert shown.find_element(By.ID, "neuron-title").text == name
        picture = shown.find_element(By.ID, "plane").accessible_name
        assert picture.startswith("Decision region" if name == "Output" else name)
    nodes[0].send_keys(Keys.ESCAPE)
    assert shown.find_element(By.ID, "neuron-title").text == "Output"


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 600, 900, 1100, 1400])
def test_nothing_sticks_out_at_any_width(shown: WebDriver, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        correct(shown)  # which waits until all is drawn
        overlaps, reach = shown.execute_script(OVERLAPS_AND_REACH)
        assert overlaps == []
        assert reach <= width
    finally:
        shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
