# What all rules share: the study, checked; the interpreter; what a script depends on.
import os
import shlex
import sys
from math import ceil
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir) / "steps"))

from sparselimit import study as studies
from sparselimit.errors import InputError
from sparselimit.search.counting import totals
from sparselimit.sources import sources

try:
    study = studies.read(config)
except InputError as error:
    raise WorkflowError(str(error))

# Jobs run `python`: the one that runs Snakemake, unless an environment of their own is activated.
here = str(Path(sys.executable).parent)
os.environ.update(PATH=os.pathsep.join([here, *os.get_exec_path()]))
# One thread a job is what the jobs are made for; libraries that do not know must be told.
os.environ.setdefault("OMP_NUM_THREADS", "1")


wildcard_constraints:
    method="[a-z][a-z0-9_]*",
    network="[a-z][a-z0-9_]*",
    study="[a-z][a-z0-9_]*",
    weights=r"\d+",


def flags(model, *names):
    """Command-line flags from fields of a config model: epochs -> --epochs 50; None is left out."""
    words = []
    for name in names:
        value = getattr(model, name)
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        words += ["--" + name.replace("_", "-"), *map(str, values)]
    return " ".join(words)


def shards_of(weights):
    """Into how many jobs the search of all networks of so many weights is cut."""
    runs = totals(study.search.weights[1])[weights] * study.search.starts
    return ceil(runs / study.search.runs_per_job)
