"""Programs run in a process of their own, which may be killed or have less than it asks for."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

STEPS = Path(__file__).parents[2] / "steps"


def output_of(program: str, *arguments: object) -> list[str]:
    """The lines that a program prints; it must end well and say nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(STEPS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
