"""A small real Slurm cluster on this machine: two virtual nodes with fake GPUs, and their faults.

For Debian as root: Slurm's daemons run as separate processes over one configuration in a folder of
the cluster's own. No accounting database, no cgroups: neither is there in a container.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
NODES = ("n1", "n2")
PORT = 26817
#: Slurm reads it in a place that jobs know too: the executor's plugin takes SLURM_CONF from them.
ETC = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf", "cgroup.conf")
MUNGE = Path("/run/munge/munged.pid")

CONFIGURATION = """\
ClusterName=clarity
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
SwitchType=switch/none
# Processes are found by their parents, and memory is looked at each second: no cgroups.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
DefMemPerCPU=500
# Finished jobs stay in squeue, which is asked what became of them.
MinJobAge=3600
# Short, for tests: a node without a heartbeat is down, its jobs have failed.
SlurmdTimeout=20
SlurmctldTimeout=30
KillWait=5
UnkillableStepTimeout=15
InactiveLimit=0
ReturnToService=2
JobRequeue=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
# More CPUs than the machine may have: this file is believed.
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
PartitionName=gpu Nodes={names} Default=NO MaxTime=INFINITE DefaultTime=10 State=UP
"""
CGROUPS = """\
CgroupPlugin=autodetect
CgroupAutomount=no
ConstrainCores=no
ConstrainRAMSpace=no
ConstrainDevices=no
"""


def unavailable() -> str:
    """Return why no cluster can be started here; "" if one can."""
    if sys.platform != "linux" or not Path("/etc/debian_version").exists():
        return "a Slurm of Debian's packages needs Debian"
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    conf = ETC / "slurm.conf"
    if conf.exists() and not conf.is_symlink():
        return f"{conf} is there already: this machine has a Slurm of its own"
    absent = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not _found(name)]
    if absent:
        return f"no {', '.join(absent)} here: apt-get install {' '.join(PACKAGES)}"
    return ""


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def is_alive(pid: int, name: str) -> bool:
    """Whether a process is there and is called so."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Return all processes below one, the lowest first."""
    below: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, file.read_text().split()):
                below += [*descendants(child), child]
    return below


def kill(pids: list[int]) -> None:
    """Kill processes at once, as a power cut does."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@dataclass
class Cluster:
    """A cluster with its state in ``folder``; beside it, links in /etc/slurm."""

    folder: Path
    munge: bool = False

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- life

    def start(self) -> None:
        """Start all daemons and wait until both nodes are idle.

        Raises:
            RuntimeError: if a cluster runs here already, or a daemon does not start.
        """
        if (ETC / "slurm.conf").is_symlink() and self._answers():
            raise RuntimeError(f"{ETC}/slurm.conf: found a cluster that runs, wanted none")
        for name in ("run", "log", "state", "spool", "dev", "etc"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._start_munge()
        self._configure()
        self.controller_up()
        for node in NODES:
            self.restart(node)
        self.wait_for(lambda: self._idle() == len(NODES), 60, "idle nodes")

    def stop(self) -> None:
        """End the jobs, then the daemons that were started here."""
        if self._answers():
            self.run("scancel", "--user=root")
            with suppress(TimeoutError):
                self.wait_for(lambda: not self.run("squeue", "-h"), 20, "the end of all jobs")
        for node in NODES:
            kill(self._jobs_on(node))
            self._end(self._pid(f"slurmd.{node}"), "slurmd")
        self._end(self._pid("slurmctld"), "slurmctld")
        for name in FILES:
            link = ETC / name
            if link.is_symlink() and Path(os.readlink(link)).parent == self.folder / "etc":
                link.unlink()
        if self.munge and MUNGE.exists():
            self._end(int(MUNGE.read_text()), "munged")
            self.munge = False

    # --- faults

    def crash(self, node: str) -> None:
        """Cut a node's power: its daemon, its steps and its jobs are gone at once."""
        kill([pid for pid in (self._pid(f"slurmd.{node}"), *self._jobs_on(node)) if pid])

    def restart(self, node: str) -> None:
        """Start a node; by itself it becomes idle."""
        (self.folder / "spool" / node).mkdir(exist_ok=True)
        self.run("slurmd", "-N", node)

    def drain(self, node: str) -> None:
        """Let a node finish its jobs and take no others."""
        self.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")

    def resume(self, node: str) -> None:
        """Let a drained node take jobs again."""
        self.run("scontrol", "update", f"nodename={node}", "state=resume")

    def freeze(self) -> None:
        """Stop all processes of all jobs, so that their time runs out."""
        daemons = list(_processes("slurmstepd"))
        for pid in [below for daemon in daemons for below in descendants(daemon)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def controller_down(self) -> None:
        """Take the controller away; jobs that run go on."""
        kill([pid for pid in [self._pid("slurmctld")] if pid])

    def controller_up(self) -> None:
        """Start the controller and wait until it answers."""
        self.run("slurmctld")
        self.wait_for(self._answers, 30, "an answer of the controller")

    # --- a look

    def jobs(self) -> list[dict[str, str]]:
        """Return every job the controller remembers, the latest last, with what it asked for."""
        keys = ("id", "state", "node", "comment", "partition", "limit", "memory", "name")
        look = ("squeue", "-h", "--states=all", "--sort=i", "--format=%i|%T|%N|%k|%P|%l|%m|%j")
        text = self.run(*look)
        return [dict(zip(keys, line.split("|"), strict=True)) for line in text.splitlines()]

    def running(self, rule: str = "") -> list[dict[str, str]]:
        """Return the jobs at work, or those of a rule: its name is in the comment."""
        return [j for j in self.jobs() if j["state"] == "RUNNING" and rule in j["comment"]]

    def wait_for(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until something is so.

        Raises:
            TimeoutError: if it is not in time, with the end of the controller's log.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {what} within {seconds:g} s\n{self._log()}")
            time.sleep(0.2)

    def run(self, *command: str) -> str:
        """Call one of Slurm's programs and return what it prints.

        Raises:
            RuntimeError: if it fails, with what it said.
        """
        program = _found(command[0]) or command[0]
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{self._log()}")
        return done.stdout.strip()

    # --- parts

    def _start_munge(self) -> None:
        key = Path("/etc/munge/munge.key")
        if not key.exists() or not key.stat().st_size:
            self.run("mungekey", "--create", "--keyfile", str(key))
        shutil.chown(key, "munge", "munge")
        for path, mode in (
            ("/run/munge", 0o755),
            ("/var/lib/munge", 0o700),
            ("/var/log/munge", 0o700),
        ):
            Path(path).mkdir(exist_ok=True)
            shutil.chown(path, "munge", "munge")
            Path(path).chmod(mode)
        works = subprocess.run(["munge", "-n"], capture_output=True, timeout=30, check=False)
        if works.returncode:
            for left in MUNGE.parent.glob("munge.socket.2*"):
                left.unlink()
            as_munge = ("setpriv", "--reuid", "munge", "--regid", "munge", "--clear-groups")
            self.run(*as_munge, _found("munged") or "munged", "--pid-file", str(MUNGE))
            self.munge = True

    def _configure(self) -> None:
        gpus = [self.folder / "dev" / f"gpu{number}" for number in range(2)]
        for gpu in gpus:
            # As /dev/null: a device that Slurm can hand out, and that does nothing.
            os.mknod(gpu, 0o666 | 0o020000, os.makedev(1, 3))
        names = ",".join(NODES)
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 "
            f"Port={PORT + 100 + number} CPUs=4 RealMemory=8000 Gres=gpu:fake:2 State=UNKNOWN"
            for number, node in enumerate(NODES)
        )
        texts = {
            "slurm.conf": CONFIGURATION.format(
                host=socket.gethostname(), port=PORT, folder=self.folder, nodes=nodes, names=names
            ),
            "gres.conf": f"NodeName={names} Name=gpu Type=fake File={','.join(map(str, gpus))}\n",
            "cgroup.conf": CGROUPS,
        }
        ETC.mkdir(exist_ok=True)
        for name, text in texts.items():
            file = self.folder / "etc" / name
            file.write_text(text)
            (ETC / name).unlink(missing_ok=True)
            (ETC / name).symlink_to(file)

    def _idle(self) -> int:
        return sum(
            map(int, self.run("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D").split())
        )

    def _answers(self) -> bool:
        with suppress(RuntimeError, subprocess.TimeoutExpired):
            return "UP" in self.run("scontrol", "ping")
        return False

    def _pid(self, daemon: str) -> int:
        """Return the process of a daemon, 0 if it is not there."""
        file = self.folder / "run" / f"{daemon}.pid"
        pid = int(file.read_text().strip() or 0) if file.exists() else 0
        return pid if pid and is_alive(pid, daemon.partition(".")[0]) else 0

    def _jobs_on(self, node: str) -> list[int]:
        """Return the processes of a node's jobs: below its step daemons, which its sockets name."""
        sockets = (self.folder / "spool" / node).glob(f"{node}_*.*")
        jobs = {socket.name.partition("_")[2].partition(".")[0] for socket in sockets}
        found = []
        for pid in _processes("slurmstepd"):
            with suppress(OSError):
                if any(f"[{job}." in Path(f"/proc/{pid}/cmdline").read_text() for job in jobs):
                    found += [*descendants(pid), pid]
        return found

    def _end(self, pid: int, name: str) -> None:
        if not pid or not is_alive(pid, name):
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while is_alive(pid, name) and time.monotonic() < deadline:
            time.sleep(0.1)
        kill([pid] if is_alive(pid, name) else [])

    def _log(self) -> str:
        file = self.folder / "log" / "slurmctld.log"
        return "\n".join(file.read_text().splitlines()[-15:]) if file.exists() else ""


def _processes(name: str) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and is_alive(int(folder.name), name):
            yield int(folder.name)
