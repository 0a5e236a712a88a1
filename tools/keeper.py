"""Ends the demo's processes as soon as its own standard input closes, whatever became of the demo itself.

Each line it reads is the ID of a session and the signal that ends it. A process keeps its session when it loses its
parent or makes a process group of its own, and Airflow's task processes do both.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection, Mapping

import psutil

GRACE = 4
DEATH = 5


def lives(process: psutil.Process) -> bool:
    """Return whether a process still runs; a zombie only waits for its parent to look."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def find(sessions: Collection[int]) -> set[psutil.Process]:
    """List what lives in these sessions, and below it: a task's command may have a session of its own."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) in sessions:
                found |= {process, *process.children(recursive=True)}
    return set(filter(lives, found))


def wait(processes: set[psutil.Process], seconds: float) -> None:
    """Return when all are gone, or when the time is up."""
    deadline = time.monotonic() + seconds
    while any(map(lives, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)


def end(sessions: Mapping[int, int]) -> None:
    """Ask each session's leader to stop, by its signal, which stops its children in order; then kill what is left."""
    known = find(sessions)
    for process in known:
        if process.pid in sessions:
            with contextlib.suppress(psutil.Error):
                process.send_signal(sessions[process.pid])
    wait(known, GRACE)
    known |= find(sessions)
    for process in known:
        with contextlib.suppress(psutil.Error):
            process.kill()
    wait(known, DEATH)


def main() -> None:
    """Wait for the demo's end; a second Ctrl-C changes nothing here."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    end(dict(tuple(map(int, line.split())) for line in sys.stdin))


if __name__ == "__main__":
    main()
