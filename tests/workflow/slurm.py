"""A SLURM of one node with pretended GPUs, started for tests and stopped after them.

It has a folder, ports and a key of its own, and its clients find it by the variable SLURM_CONF
alone: a SLURM that is on the machine is neither used nor touched.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "squeue", "scancel", "sinfo", "scontrol")
# SLURM counts GPUs and tells jobs their numbers; nothing opens these, but devices they must be.
PRETENDED_GPUS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
CORES = 4
KILL_WAIT = 30  # seconds between SIGTERM and SIGKILL, as SLURM has it by default

SETTINGS = """
ClusterName=tests
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
SlurmdParameters=config_overrides
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=0,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=600
KillWait={kill_wait}
ReturnToService=2
GresTypes=gpu
NodeName={node} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=100000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={node} Default=YES MaxTime=24:00:00 State=UP
PartitionName=gpu Nodes={node} MaxTime=24:00:00 State=UP
"""


def missing() -> str | None:
    """Why there can be no SLURM here; None if there can."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    absent = [name for name in (*DAEMONS, *CLIENTS) if not shutil.which(name, path=path)]
    if absent:
        return f"no {absent[0]} here (Debian: slurmctld slurmd slurm-client munge)"
    if os.geteuid() != 0:
        return "SLURM's daemons run jobs for users, and so as root alone"
    return None


@dataclass(frozen=True)
class Job:
    """What squeue shows of a job."""

    number: str
    name: str
    comment: str
    state: str
    partition: str
    memory: str
    time_limit: str


@contextmanager
def running() -> Iterator["Slurm"]:
    """A SLURM, from the start of its daemons to their end."""
    # No folder of pytest's: paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, ExitStack() as stack:
        cluster = Slurm(Path(folder), stack)
        cluster.start()
        yield cluster
        cluster.client("scancel", "--signal=KILL", "--full", "--user=root")


class Slurm:
    """The daemons in their folder.

    environment  variables with which programs are clients of this SLURM
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.environment = self._configure()

    def start(self) -> None:
        for part in ("state", "spool"):
            (self.folder / part).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {
            "--key-file": key,
            "--socket": self.folder / "munge.socket",
            "--pid-file": self.folder / "munged.pid",
            "--seed-file": self.folder / "munged.seed",
            "--log-file": self.folder / "munged.log",
        }
        self._run("munged", "--force", "--foreground", *(f"{k}={v}" for k, v in files.items()))
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        for daemon in ("slurmctld", "slurmd"):
            self._run(daemon, "-D", "-f", str(self.folder / "slurm.conf"))
        self._wait(lambda: "idle" in self.client("sinfo", "-h", "-o", "%T"), "the node")

    def client(self, *command: str) -> str:
        """What a client of SLURM prints."""
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout

    def jobs(self) -> list["Job"]:
        """All jobs so far, in the order in which they were submitted."""
        printed = self.client(
            "squeue", "--states=all", "--noheader", "--format=%i|%j|%k|%T|%P|%m|%l"
        )
        lines = sorted(printed.splitlines(), key=lambda line: int(line.split("|")[0]))
        return [Job(*line.split("|")) for line in lines]

    def _configure(self) -> dict[str, str]:
        node = socket.gethostname().split(".")[0]
        devices = (f"NodeName={node} Name=gpu File={file}\n" for file in PRETENDED_GPUS)
        (self.folder / "gres.conf").write_text("".join(devices))
        settings = SETTINGS.format(
            node=node,
            folder=self.folder,
            ports=_free_ports(2),
            cores=CORES,
            gpus=len(PRETENDED_GPUS),
            kill_wait=KILL_WAIT,
        )
        (self.folder / "slurm.conf").write_text(settings)
        # The SLURM executor takes all variables of SLURM from the steps that it starts, this one as
        # well: they would look for their SLURM in /etc.
        own = self.folder / "bin"
        own.mkdir()
        configured = f"SLURM_CONF={self.folder}/slurm.conf"
        (own / "srun").write_text(f'#!/bin/sh\nexec env {configured} {shutil.which("srun")} "$@"\n')
        (own / "srun").chmod(0o755)
        kept = {name: text for name, text in os.environ.items() if not name.startswith("SLURM_")}
        path = os.pathsep.join([str(own), kept["PATH"], "/usr/sbin"])
        return kept | {"PATH": path, "SLURM_CONF": f"{self.folder}/slurm.conf"}

    def _run(self, daemon: str, *arguments: str) -> None:
        """Start a daemon that ends with this process at the latest."""
        log = self._stack.enter_context((self.folder / f"{daemon}.out").open("wb"))
        command = ["setpriv", "--pdeathsig", "KILL", daemon, *arguments]
        process = subprocess.Popen(
            command, env=self.environment, stdout=log, stderr=subprocess.STDOUT
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 60
        while not ready():
            if time.monotonic() > end:
                logs = [file.read_text() for file in sorted(self.folder.glob("*.out"))]
                raise RuntimeError(f"SLURM: {what} did not come up\n" + "\n".join(logs))
            time.sleep(0.1)


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
