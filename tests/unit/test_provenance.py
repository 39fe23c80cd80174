"""The chain from a figure to the files behind it: complete, or refused."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from sparselimit import store
from sparselimit.provenance import ATTRIBUTES, as_page, origins, table
from sparselimit.shards import collapsed, expanded
from tests.unit.forgery import forged
from tests.unit.refusals import refused

STEP = Path(__file__).parents[2] / "steps" / "provenance.py"
POINTS: store.Content = {
    "x": np.zeros((2, 2), dtype=np.float32),
    "y": np.zeros(2, dtype=np.int64),
    "split": np.zeros(2, dtype=np.int64),
}


class Page(HTMLParser):
    """Sections by their anchor: the places that each links to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: dict[str, list[str]] = {}
        self.text: dict[str, str] = {}
        self.inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "section":
            self.inside = str(given["id"])
            self.links[self.inside], self.text[self.inside] = [], ""
        elif tag == "a" and self.inside:
            self.links[self.inside].append(str(given["href"]).removeprefix("#"))

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text[self.inside] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self.inside = None

    def behind(self, anchor: str) -> set[str]:
        """All sections that links lead to from here."""
        found: set[str] = set()
        pending = [anchor]
        while pending:
            new = set(self.links[pending.pop()]) - found
            found |= new
            pending += new
        return found


def made(path: str, *earlier: str, **options: object) -> str:
    """A result file whose configuration names those it was made from."""
    store.write(path, "points", POINTS, config={"data": list(earlier), **options})
    return path


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two shards made from data, gathered in one file; all paths relative to where one works."""
    monkeypatch.chdir(tmp_path)
    data = made("results/data.h5")
    shards = [made(f"results/k9/shard-{i}-of-2.h5", data, shard=i) for i in (0, 1)]
    return [data, *shards, made("results/frontier.h5", *shards)]


FIGURES = {"search": ("Figure 1 <The search>", ["results/tables/runs.csv", "results/data.h5"])}
TABLES = {"runs": ("Table 1", ["results/frontier.h5"])}


def test_a_figure_leads_to_all_that_is_behind_it(chain: list[str]) -> None:
    found = origins(["results/frontier.h5", "results/data.h5"])
    assert list(found) == sorted(chain)
    page = Page(as_page(FIGURES, TABLES, found))
    shards = "results/k9/shard-*-of-2.h5"
    behind = {"table-runs", "results/frontier.h5", shards, "results/data.h5"}
    assert page.behind("figure-search") == behind
    assert page.links["results/frontier.h5"] == [shards]
    assert page.links.keys() == behind | {"figure-search"}
    assert page.text["figure-search"].startswith("Figure 1 <The search>")
    assert "in all, 2 shards" in page.text[shards]


def test_every_file_tells_all_of_itself(chain: list[str]) -> None:
    """Whatever `store.write` notes is on the page and in the table."""
    with h5py.File(chain[0]) as file:
        assert set(file.attrs) == set(ATTRIBUTES)
    found = origins(chain)
    page, rows = Page(as_page(FIGURES, TABLES, found)), table(found).set_index("file")
    assert list(rows.index) == sorted(chain)
    for path in (chain[0], chain[-1]):
        attributes = found[path].attributes
        shown = page.text[path]
        for name in ("kind", "created", "command", "code", "device"):
            assert str(attributes[name]) in shown, name
            assert rows.loc[path, name] == attributes[name]
        for library, number in json.loads(str(attributes["libraries"])).items():
            assert f"{library} {number}" in shown
    assert rows.made_from["results/frontier.h5"] == " ".join(chain[1:3])
    assert json.loads(rows.config[chain[1]]) == {"data": [chain[0]], "shard": 0}
    assert '"shard": 0' in page.text["results/k9/shard-*-of-2.h5"]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_file_that_does_not_tell_is_refused(chain: list[str], name: str) -> None:
    with forged(Path(chain[0])) as file:
        del file.attrs[name]
    with refused(chain[0], error=store.StoreError):
        origins([chain[-1]])


def test_what_is_gone_or_was_made_again_is_said(chain: list[str]) -> None:
    with forged(Path(chain[0])) as file:
        file.attrs["created"] = "9999-01-01T00:00:00+00:00"
    Path(chain[1]).unlink()
    page = Page(as_page(FIGURES, TABLES, origins(["results/frontier.h5"])))
    shards = "results/k9/shard-*-of-2.h5"
    assert f"{shards} (not here)" in page.text["results/frontier.h5"]
    assert "results/data.h5 (made again since)" in page.text[shards]


def test_long_commands_are_cut_on_the_page_only(chain: list[str]) -> None:
    with forged(Path(chain[0])) as file:
        file.attrs["command"] = "python " + "x" * 100_000
    found = origins([chain[0]])
    assert len(as_page({}, {}, found)) < 10_000
    assert len(table(found).command[0]) > 100_000


def test_names_of_shards() -> None:
    paths = ["a/shard-000-of-010.h5", "b.h5", "a/shard-009-of-010.h5", "a/shard-000-of-011.h5"]
    assert collapsed(paths) == ["a/shard-*-of-010.h5", "b.h5", "a/shard-*-of-011.h5"]


def test_shards_are_found_by_their_pattern(chain: list[str]) -> None:
    assert expanded("results/k9/shard-*-of-2.h5") == chain[1:3]
    assert expanded("anything.h5") == ["anything.h5"]
    with refused("results/k9/shard-*-of-3.h5", "no such files"):
        expanded("results/k9/shard-*-of-3.h5")


def test_the_step(chain: list[str]) -> None:
    options = ("--figures", json.dumps(FIGURES), "--tables", json.dumps(TABLES))
    command = [sys.executable, str(STEP), *options, "--output", "p.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert pd.read_csv("p.csv").file.tolist() == sorted(chain)
    assert "figure-search" in Page(Path("p.html").read_text()).links
    Path(chain[1]).write_text("no HDF5")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert chain[1] in done.stderr
    assert "Traceback" not in done.stderr
