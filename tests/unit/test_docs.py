"""What the documentation says to type, and what captions point at."""

import re
import shlex
from pathlib import Path

import jinja2
import pytest
from snakemake.cli import get_argument_parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/benchmarks/*.md")]
COMMENTED = [ROOT / "Snakefile", *ROOT.glob("studies/*.yaml")]


def commands(file: Path) -> list[str]:
    """Lines that begin with `snakemake`: in blocks of commands, or in comments."""
    lines = file.read_text().splitlines()
    found = [re.match(r"(?:#   )?(snakemake .*?)(?:   |$)", line) for line in lines]
    return [match[1] for match in found if match]


@pytest.mark.parametrize("file", [*DOCUMENTS, *COMMENTED], ids=lambda file: file.name)
def test_commands_mean_what_they_look_like(file: Path) -> None:
    """After --configfile stand files alone: targets that follow need an option between, or `--`."""
    parser = get_argument_parser()
    for command in commands(file):
        given = parser.parse_args(shlex.split(command, comments=True)[1:])
        for config in given.configfile or []:
            assert (ROOT / config).is_file() or str(config) == "mine.yaml", command


def test_commands_are_found() -> None:
    assert len(commands(ROOT / "README.md")) > 5
    assert sum(len(commands(file)) for file in (*DOCUMENTS, *COMMENTED)) > 15


def test_tables_that_texts_name_are_there() -> None:
    rules = (ROOT / "rules" / "report.smk").read_text()
    texts = "\n".join(
        file.read_text() for file in (*ROOT.glob("report/**/*.rst"), *ROOT.glob("docs/*.md"))
    )
    named = re.findall(r"""\btable ["*]([^"*]+)["*]""", texts)
    assert len(named) > 3
    assert [name for name in named if f'"{name}"' not in rules] == []


@pytest.mark.parametrize("caption", ["report/workflow.rst", "report/figures/frontier.rst"])
def test_captions_count_the_starts_of_all_rounds(caption: str) -> None:
    search = {"starts": 7, "rounds": 3, "weights": [4, 9]}
    given = {"snakemake": {"config": {"search": search}}, "files": []}
    text = jinja2.Template((ROOT / caption).read_text()).render(given)
    assert re.search(r"\b21\s+starts", text)
