# What all rules share: the study, checked; the interpreter; what a script depends on.
import os
import re
import shlex
import sys
from math import inf
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

sys.path.insert(0, str(Path(workflow.basedir) / "steps"))

from sparselimit import cost, images, own
from sparselimit import study as studies
from sparselimit.errors import InputError
from sparselimit.sources import sources

try:
    for file in workflow.configfiles:
        studies.check_file(Path(file))
    study = studies.read(config)
except InputError as error:
    raise WorkflowError(str(error))

# Jobs run `python`: the one that runs Snakemake, unless an environment of their own is activated.
here = str(Path(sys.executable).parent)
os.environ.update(PATH=os.pathsep.join([here, *os.get_exec_path()]))
# One thread a job is what the jobs are made for; libraries that do not know must be told.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A step that gets SIGTERM saves its state and ends; the shell around it gets the signal as well,
# and has to wait for that.
shell.prefix("set -euo pipefail; trap : TERM; ")

# GPUs that a job takes for itself if it computes on the device. They are counted on the machine
# where it runs, by the default profile or by a cluster.
GPUS = int(study.device != "cpu")


resource_scopes:
    gpu="local",


def any_of(names):
    """A pattern for just these names: what the study does not have, no rule makes."""
    return "|".join(names) or "(?!)"


def among(files, place):
    """A pattern for the first wildcard of a path, behind `place`: the path is one of these files.

    For wildcards each of which fits the study, but not all of them together.
    """
    ends = any_of([re.escape(file.removeprefix(place)) for file in files])
    return f"(?=(?:{ends})$)[^/]+"


wildcard_constraints:
    method=any_of(study.prune.methods),
    network=any_of(study.networks),
    baseline=any_of(study.baselines.methods),
    study=any_of(study.prune.studies),


DAY = 24 * 60  # in minutes: no partition is sure to grant more

# What a unit of work takes, by which time limits are set and `snakemake cost` reckons.
RATES_HERE = "results/rates.csv"
SHIPPED_RATES = str(cost.MEASURED.relative_to(workflow.basedir))
RATES = study.rates or SHIPPED_RATES
if Path(RATES) == Path(RATES_HERE) and not Path(RATES).exists():
    logger.warning(
        f"{RATES_HERE} is not there yet (snakemake --cores 1 {RATES_HERE} makes it): what work takes "
        f"is reckoned by {SHIPPED_RATES}"
    )
    RATES = SHIPPED_RATES
try:
    KNOWN_RATES = cost.Rates.read(RATES)
except InputError as error:
    raise WorkflowError(str(error))


def growing(least, most=inf):
    """A resource that doubles with every further attempt at a job, up to a limit."""
    return lambda wildcards, attempt: min(least * 2 ** (attempt - 1), most)


def roomy(least):
    """MB for a job with the images of a network, growing likewise."""
    return lambda wildcards, attempt: growing(
        cost.megabytes(study, wildcards.network, least)
    )(wildcards, attempt)


def enough(work):
    """Minutes for a job of such work, growing likewise."""
    return lambda wildcards, attempt: growing(
        cost.minutes(KNOWN_RATES, work(wildcards), study.device), DAY
    )(wildcards, attempt)


def flags(model, *names):
    """Command-line flags from fields of a config model: epochs -> --epochs 50; None is left out."""
    words = []
    for name in names:
        value = getattr(model, name)
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return " ".join(words)


def frontier_of_study(wildcards):
    """The search, for a study that starts from what it found."""
    searched = study.prune.studies[wildcards.study].searched
    return "results/search/frontier.h5" if searched else []


def state_dict_of_study(wildcards):
    """The file that a study starts from; nothing for all others."""
    return study.prune.studies[wildcards.study].state_dict or []


def start_of_study(wildcards, input):
    """From which initial values a study's networks start."""
    of_study = study.prune.studies[wildcards.study]
    frontier = f" --frontier {input.frontier}" if input.frontier else ""
    initial = shlex.quote(str(of_study.initial))
    return f"--initial {initial}{frontier} {flags(of_study, 'accuracy')}"


def training_of_study(wildcards):
    """How a study trains, in one setting: the first of its learning rates and schedules."""
    runs = study.prune.studies[wildcards.study].trained_as(study.runs)
    rate, schedule = runs.learning_rates[0], runs.schedules[0]
    return f"--learning-rate {rate} --schedule {schedule} {flags(runs, 'epochs')}"


def data_file(network):
    """The file of the data set of a network."""
    name = study.networks[network].data
    if own.is_own(name):
        return f"results/data/own/{own.plain(name)}.h5"
    return f"results/data/{name}.h5"


def data_of(wildcards):
    """The data set of a network."""
    return data_file(wildcards.network)


def code_of(wildcards):
    """The files that are run to build a network of one's own; nothing for all others."""
    architecture = study.networks[wildcards.network].architecture
    return own.files_of(architecture) if own.is_own(architecture) else []


def network_flags(wildcards, input):
    """A trained network and its data, as the steps take them that look at it."""
    code = f" --code {shlex.quote(input.code[0])}" if input.code else ""
    return f"--data {input.data} --network {input.network}{code}"


def recipe_flags(wildcards):
    """How a network is trained."""
    return flags(
        study.networks[wildcards.network],
        *(
            "epochs",
            "batch_size",
            "optimizer",
            "learning_rate",
            "momentum",
            "weight_decay",
        ),
        *(
            "l1",
            "schedule",
            "milestones",
            "factor",
            "warmup",
            "protocol",
            "augment",
            "seed",
        ),
    )
