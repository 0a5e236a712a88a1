"""What this process remembers between callbacks: outages, the time that a batch has spent, clients, rules."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from airflow_incident.core.timing import BREAK_SECONDS, MIN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_incident.api.client import Client
    from airflow_incident.core.account import Account
    from airflow_incident.core.routes import Routes


_MOST_SPENT = 10_000
"""Callbacks whose time is remembered: the watcher calls many, and nobody asks what they took."""


class TimeBudget:
    """Shares a process's time among its callbacks: those of one task, or a batch of the DAG processor.

    Airflow ends a task's callbacks together, so each may take what those before it have left. A process of the DAG
    processor serves a batch of callbacks and is killed with all of them when the batch takes too long. So each report
    of a batch may take half of what is left at most: the first ones have time for retries in an outage. Every later
    one still gets its try, out of half as much again, and the sum stays below that.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._spent: deque[tuple[float, float]] = deque(maxlen=_MOST_SPENT)
        self._lock = threading.Lock()

    def left(self, together: float) -> float:
        """Return how many of the seconds that its callbacks have together are left."""
        with self._lock:
            since = self._clock() - 2 * together
            while self._spent and self._spent[0][0] < since:
                self._spent.popleft()
            return together - sum(seconds for _, seconds in self._spent)

    def allot(self, *, longest: float, batch: float, written: bool = False) -> float:
        """Return the seconds that the next report of a batch may take, `longest` at most.

        :param batch: Seconds that all reports of one batch may take together.
        :param written: Whether a report that comes too late is at least written down; then it needs no try.
        """
        left = self.left(batch)
        late = 0.0 if written else min(MIN_SECONDS, (left + batch / 2) / 2)
        return min(longest, max(left / 2, late, 0.0))

    def record(self, seconds: float) -> None:
        """Write down what a callback took."""
        with self._lock:
            self._spent.append((self._clock(), seconds))


class Breaker:
    """Remembers an outage for a minute: meanwhile failures are only written down, where they can be."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def trip(self, base_url: str) -> None:
        """Note an outage of an address."""
        self._until[base_url] = self._clock() + BREAK_SECONDS

    def is_open(self, base_url: str) -> bool:
        """Return whether an address had an outage just now."""
        return self._clock() < self._until.get(base_url, 0.0)


class Process:
    """One process's memory. `clients` has one per account and process id: a fork must not share sockets.

    `routes` is the file of rules that was read last, with what tells a changed one from it.
    """

    def __init__(self) -> None:
        self.clients: dict[tuple[int, Account], Client] = {}
        self.reset()

    def reset(self) -> None:
        """Begin anew, as a process without a past."""
        for client in self.clients.values():
            client.close()
        self.clients.clear()
        self.breaker = Breaker(time.monotonic)
        self.budget = TimeBudget(time.monotonic)
        self.routes: tuple[tuple[str | int, ...], Routes | None] = ((), None)


PROCESS = Process()
