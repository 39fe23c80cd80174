"""What the documentation says to type."""

import re
import shlex
from pathlib import Path

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
