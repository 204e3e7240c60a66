"""Locks: own who works on something alone: on results, on what one job makes, on a GPU.

A lock is held by a process through an open file (flock), so that the system frees it when the
process ends, whatever ends it: after a crash there is nothing to unlock. File systems that know no
such locks are worked on without.
"""

import errno
import fcntl
import itertools
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO

#: Beside everything else under the results root.
RESULTS = ".lock"
#: What the name of a job's lock ends with; it is that of its log, after a dot.
LOCK = ".lock"
#: What a file system says that has no locks.
WITHOUT = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
#: How often results are asked for, and seconds between.
TRIES, PAUSE = 4, 0.25

#: Locks that this process holds until it ends.
_held: list[IO[str]] = []


class Busy(Exception):
    """Another process holds the lock; the message says which."""


def hold_results(root: Path) -> bool:
    """Keep others from working on results until this process ends.

    Returns:
        Whether they are kept from it: not on a file system that knows no locks.

    Raises:
        Busy: if another process works on them; the message says which, and what to do.
        OSError: if the results cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    file = open(root / RESULTS, "a+", encoding="utf-8")  # noqa: SIM115 (held until the end)
    # More than once: who asks for the holder has the lock for a moment.
    for _ in range(TRIES):
        taken = _lock(file)
        if taken is not False:
            break
        time.sleep(PAUSE)
    else:
        told = _read(file)
        file.close()
        raise Busy(
            f"{root}: another Snakemake works on these results ({told}). Wait until it has ended, "
            f"or end it"
        )
    file.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    json.dump({"process": os.getpid(), "host": socket.gethostname(), "since": since}, file)
    file.flush()
    _held.append(file)
    return taken is True


def holder(root: Path) -> str:
    """Return who works on results at the moment, in words; "" if nobody does."""
    try:
        with open(root / RESULTS, encoding="utf-8") as file:
            # Shared, which network file systems want of a file that is open for reading.
            return _read(file) if _lock(file, fcntl.LOCK_SH) is False else ""
    except FileNotFoundError:
        return ""


def left_at_work(logs: Path) -> list[Path]:
    """Return the logs of jobs that are at work: in ``logs`` and its folders, by whatever driver.

    No deeper, where lie records of costs: a folder for each run, and no log.
    """
    found = []
    for lock in itertools.chain(logs.glob(f".*{LOCK}"), logs.glob(f"*/.*{LOCK}")):
        with open(lock, encoding="utf-8") as file:
            if _lock(file, fcntl.LOCK_SH) is False:
                found.append(lock.with_name(lock.name.removeprefix(".").removesuffix(LOCK)))
    return found


def open_log(path: Path) -> float:
    """Send what this process prints into a job's log, once no other process has that log.

    A job that another one of its name waits for was left by a driver that was killed: it goes on,
    and what it makes is taken up. The log is this process's until it ends.

    Returns:
        When the job began to work, by `time.perf_counter`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the log itself, which Snakemake deletes before it starts a job.
    lock = open(path.with_name(f".{path.name}{LOCK}"), "a", encoding="utf-8")  # noqa: SIM115
    if _lock(lock) is False:
        fcntl.flock(lock, fcntl.LOCK_EX)
    _held.append(lock)
    log = open(path, "w", buffering=1, encoding="utf-8", errors="replace")  # noqa: SIM115
    sys.stdout = sys.stderr = log
    return time.perf_counter()


def hold_least_used(names: list[str], folder: Path) -> int:
    """Take one of some things that several processes may share, as evenly as can be, until the end.

    Args:
        names: of the things; those of different processes are the same if their names are.
        folder: where the files of the locks lie.

    Returns:
        The place in ``names`` of one that as few as possible of the others hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for turn in itertools.count():
        for place, name in enumerate(names):
            file = open(folder / f"{name}.{turn}", "a", encoding="utf-8")  # noqa: SIM115
            if _lock(file) is not False:
                _held.append(file)
                return place
            file.close()
    raise AssertionError("counting has no end")


def _lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool | None:
    """Take the lock of an open file; return whether it was free, None if there are no locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT:
            raise
        return None
    return True


def _read(file: IO[str]) -> str:
    file.seek(0)
    try:
        known = json.loads(file.read())
        return f"process {known['process']} on {known['host']}, since {known['since']}"
    except (ValueError, KeyError):
        return "which has not said its name yet"
