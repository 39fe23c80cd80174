"""The first page of the report: what it says follows from the tables."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sparselimit.overview import effort, page, sentences

FRONTIER = pd.DataFrame(
    {"weights": [14, 15, 16], "networks": [3000, 7000, 2], "runs": [30000, 70000, 20]}
).assign(accuracy=[0.9, 0.93, 0.95])

EXTENT = pd.DataFrame(
    [
        ("spiral-runs", 2, 100, 2_000_000, 1800.0, "cpu"),
        ("search-shard", 3, 5000, 7_000_000, 7200.0, "cuda"),
        ("beam", 1, 10, 1_000, 1.0, "cpu"),
        ("network", 1, 1, 0, 30.0, "cpu"),
    ],
    columns=["kind", "files", "networks", "steps", "seconds", "devices"],
)


def answers(**changes: object) -> pd.DataFrame:
    """Two accuracies, of which the higher is reached by none; `changes` to the lower."""
    row = {
        "accuracy": 0.95,
        "searched_from": 4,
        "searched_below": 16,
        "known_weights": 16,
        "known_source": "search",
        "method": "imp_lth",
        "method_weights": 20,
        "gap": 4,
        "weights_dense": 560,
        "networks": 3,
        "predicted": 2,
        "predicted_weights": 120.0,
        "predicted_low": 110.0,
        "predicted_high": 130.0,
    }
    nothing = dict.fromkeys(row, np.nan) | {
        "accuracy": 0.99,
        "searched_from": 4,
        "searched_below": 17,
    }
    return pd.DataFrame([row | changes, nothing])


def test_what_is_said_of_the_highest_accuracy_reached() -> None:
    assert sentences(answers(), FRONTIER) == {
        "Truth": "16 weights suffice for 95% accuracy on the Cubist Spiral, by a network that the "
        "exhaustive search found and that is stored; none of the 10,000 networks there are with "
        "14 to 15 weights, each trained from 10 starts, does.",
        "Algorithms": "The best pruning method there, IMP-LTH, needs 20 weights: 4 more than the "
        "sparsest network known (+25%).",
        "Theory": "From the curvature of dense networks of 560 weights the corrected formula "
        "predicts that 120 weights must stay (110 to 130 over 2 networks).",
    }


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        (
            {"method": "imp_effective", "method_weights": 16, "gap": 0},
            "Algorithms",
            "The best pruning method there, IMP, effective, needs 16 weights, no more than the "
            "sparsest network known.",
        ),
        (
            {"known_weights": 18, "known_source": "beam"},
            "Truth",
            "14 to 15 weights, each trained from 10 starts, does, and from 16 to 17 weights it is "
            "open.",
        ),
        # A method found what the search had missed: of 15 weights nothing is excluded.
        (
            {"known_weights": 15, "known_source": "imp"},
            "Truth",
            "none of the 3,000 networks there are with 14 weights",
        ),
        ({"searched_below": 14}, "Truth", "no sparser networks were searched."),
        ({"searched_from": 15}, "Truth", "none of the 7,000 networks there are with 15 weights"),
        ({"method": np.nan, "method_weights": np.nan}, "Algorithms", "No pruning method of this"),
        ({"gap": 0, "method_weights": 16}, "Algorithms", "no more than the sparsest network known"),
        ({"predicted_weights": 10.5}, "Theory", "predicts that 10.5 weights must stay"),
        ({"predicted_weights": np.nan}, "Theory", "gives no prediction"),
        ({"predicted_low": 120.0, "predicted_high": 120.0}, "Theory", "(the same for 2 networks)"),
    ],
)
def test_what_is_said_otherwise(changes: dict[str, object], name: str, said: str) -> None:
    assert said in sentences(answers(**changes), FRONTIER)[name]


def test_what_is_said_where_nothing_is_known() -> None:
    said = sentences(answers(known_weights=np.nan), FRONTIER)
    assert said["Truth"] == (
        "None of the 10,002 networks there are with 14 to 16 weights, each trained from 10 starts, "
        "reaches 95% accuracy; the best reaches 95%."
    )
    gap = sentences(answers(known_weights=np.nan), FRONTIER.iloc[[0, 2]])
    assert "the 3,002 networks there are with 14, 16 weights" in gap["Truth"]


def test_an_accuracy_that_a_method_reached_as_well_comes_first() -> None:
    higher = answers(accuracy=0.97, known_weights=17, method_weights=np.nan).iloc[:1]
    both = pd.concat([answers(), higher])
    assert sentences(both, FRONTIER)["Truth"].startswith("16 weights suffice for 95%")


def test_effort() -> None:
    assert effort(EXTENT) == (
        "5,111 networks were trained in 7 jobs, which ran for 2.51 hours in all (cpu, cuda; jobs "
        "run side by side). On the spiral the searches spent 7,001,000 SGD steps, pruning methods "
        "and dense networks 2,000,000."
    )
    assert "ran for 1.9 seconds" in effort(EXTENT.assign(seconds=1.9 / 4))
    assert "ran for 3 minutes" in effort(EXTENT.assign(seconds=45.0))


class Cells(HTMLParser):
    """The texts of a page's table, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.inside = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1].append(data)


def test_page_shows_the_table_and_carries_it_and_the_figure() -> None:
    text = page(answers(), FRONTIER, EXTENT, figure="<svg>é</svg>")
    cells = Cells()
    cells.feed(text)
    assert cells.rows[1:] == [
        ["95%", "16", "16", "IMP-LTH", "20", "4", "120"],
        ["99%", "–", "17", "–", "–", "–", "–"],
    ]
    assert len(cells.rows[0]) == 7
    svg, csv = re.findall(r"base64,([^\"]*)", text)
    assert base64.b64decode(svg).decode() == "<svg>é</svg>"
    assert base64.b64decode(csv).decode() == answers().to_csv(index=False)


def test_page_can_stand_inside_another() -> None:
    """The report puts it into its own first page: no script, no style that reaches further."""
    text = page(answers(), FRONTIER, EXTENT, figure="")
    assert "<script" not in text
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    selectors = re.findall(r"([^{}]+)\{", style)
    assert all(".overview" in part for rule in selectors for part in rule.split(","))


def test_names_of_methods_are_no_markup(tmp_path: Path) -> None:
    assert "<b>" not in page(answers(method="<b>"), FRONTIER, EXTENT, figure="")


def test_page_says_where_a_search_begins_that_leaves_out_sparser_networks() -> None:
    late = pd.concat([answers(searched_from=14), answers(searched_from=16).iloc[:1]])
    cells = Cells()
    cells.feed(page(late, FRONTIER, EXTENT, figure=""))
    assert [row[2] for row in cells.rows[1:]] == ["16 (from 14)", "–", "17"]
