# What all rules share: the study, checked; the interpreter; what a script depends on.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir) / "steps"))

from sparselimit import study as studies
from sparselimit.errors import InputError
from sparselimit.sources import sources

try:
    study = studies.read(config)
except InputError as error:
    raise WorkflowError(str(error))

# Jobs run `python`: the one that runs Snakemake, unless an environment of their own is activated.
os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
)
# One thread a job is what the jobs are made for; libraries that do not know must be told.
os.environ.setdefault("OMP_NUM_THREADS", "1")


wildcard_constraints:
    method="[a-z][a-z0-9_]*",
    network="[a-z][a-z0-9_]*",
    width=r"\d+",
    weights=r"\d+",


def flags(model, *names):
    """Command-line flags from fields of a config model: epochs -> --epochs 50."""
    words = []
    for name in names:
        value = getattr(model, name)
        values = value if isinstance(value, list) else [value]
        words += ["--" + name.replace("_", "-"), *map(str, values)]
    return " ".join(words)
