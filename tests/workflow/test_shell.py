"""What a study names reaches a shell as one word, whatever it would mean there."""

import shlex

import pytest
import yaml  # type: ignore[import-untyped]

from tests.workflow.conftest import Workflow

pytestmark = pytest.mark.workflow

PLACE = "it's; touch pwned; $(touch pwned) `touch pwned` \" > pwned | # & * ~ \\"
OVERLAY = {
    "networks": {
        **dict.fromkeys(("dense", "sparse", "conv")),
        "mine": {
            "data": f"{PLACE}/mine.py:data",
            "architecture": f"{PLACE}/mine.py:network",
            "state_dict": f"{PLACE}/mine.pt",
        },
        "known": {"data": "mnist", "architecture": "fc5"},
    },
    "images": {"folder": PLACE},
    "baselines": {"networks": ["mine"]},
    "prune": {
        "methods": {"mine": {"method": "imp", "prunings": 3}},
        "studies": {
            "given": {
                "networks": [3],
                "targets": [10],
                "initial": f"{PLACE}/start.pt",
                "accuracy": None,
                "control": False,
            }
        },
    },
}


def test_what_a_study_names_is_one_word_of_a_command(workflow: Workflow) -> None:
    folder = workflow.folder / PLACE
    folder.mkdir(parents=True)
    for name in ("mine.py", "mine.pt", "start.pt"):
        (folder / name).touch()
    (workflow.folder / "harm.yaml").write_text(yaml.safe_dump(OVERLAY))
    done = workflow.snakemake(
        *("--dry-run", "--printshellcmds", "--configfile", "studies/smoke.yaml", "harm.yaml", "--"),
        *("results/limits/mine/report.html", "results/data/mnist.h5"),
        "results/prune/given/mine.h5",
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    commands = [line.strip() for line in output.splitlines() if "python steps/" in line]
    assert len(commands) >= 8
    for command in commands:
        head, _, log = command[command.index("python steps/") :].rpartition(" > ")
        assert log.startswith("logs/")
        # Outside quotes, nothing that means something to a shell: no word was cut by it.
        words = list(shlex.shlex(head, posix=True, punctuation_chars=True))
        assert not {";", "|", "&", "&&", ">", "(", ")", "`"} & set(words), command
        given = [word for word in shlex.split(head) if "pwned" in word]
        assert all(word.startswith((PLACE, "results/")) for word in given), command
    text = "\n".join(commands)
    for option in ("--loader", "--architecture", "--state-dict", "--code", "--folder", "--initial"):
        assert f"{option} {shlex.quote(PLACE)[:20]}" in text, option
    assert not list(workflow.folder.rglob("*pwned"))[1:]
