"""The watcher as a process: a round every so often, until it is told to stop; no round's failure ends it."""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_incident.core.text import format_span, log_line
from airflow_incident.core.timing import (
    BACKOFF_AWAY,
    BACKOFF_AWAY_LIMIT,
    LAST_STEP_SECONDS,
    LOOK_FOR_STUCK,
    STUCK_SECONDS,
)
from airflow_incident.delivery.outcome import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_incident.watcher.round import Round

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Pace:
    """Carries rounds one after the other, and says in one line when one fails, and when one succeeds again."""

    def __init__(self, carry: Callable[[], Round], *, every: float, stop: threading.Event) -> None:
        self._carry, self._every, self._stop = carry, every, stop
        self._away_since: float | None = None
        self._pause = BACKOFF_AWAY
        self._round_began: float | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether a round takes so long that it will not end: its connection has broken off, and nobody has told."""
        began = self._round_began
        return began is not None and time.monotonic() - began > STUCK_SECONDS

    def run(self) -> None:
        """Go on until it is told to stop."""
        while not self._stop.is_set():
            began = self._round_began = time.monotonic()
            pause = self.step()
            self._round_began = None
            self._stop.wait(max(0.0, pause - (time.monotonic() - began)))

    def step(self) -> float:
        """Carry one round; return how many seconds after its beginning the next one is to begin."""
        try:
            done = self._carry()
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- what is away comes back, and the next round makes good
            if self._away_since is None:
                self._away_since = time.monotonic()
                log.warning("incident.io: the watcher's round failed: %s; it tries again", why(error))
            pause = self._pause
            self._pause = min(2 * pause, BACKOFF_AWAY_LIMIT, self._every)
            return pause
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            log.info("incident.io: the watcher's rounds succeed again, after %.0f s", seconds)
            self._away_since, self._pause = None, BACKOFF_AWAY
        if done.differences:
            log.info("incident.io: watcher: %s", round_line(done))
        return self._every


def why(error: BaseException) -> str:
    """Say in one line what went wrong."""
    return clean(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def round_line(done: Round) -> str:
    """Say what a round found to differ."""
    counts = {
        "failed runs without an incident": done.opened,
        "open incidents of successful runs": done.recovered,
        "open incidents of deleted runs": done.gone,
        "broken DAG files without an incident": done.broken,
        "open incidents of mended DAG files": done.mended,
        "delivered or closed from the journal": done.delivered,
        "waiting in the journal": done.waiting,
    }
    told = [f"{text}: {number}" for text, number in counts.items() if number] or ["nothing differs"]
    return log_line(f"{', '.join(told)} ({done.seconds:.1f} s)")


def run_until_stopped(
    carry: Callable[[], Round], *, every: float, stop: threading.Event
) -> Literal["ended", "broken off", "stuck"]:
    """Carry rounds until SIGTERM or SIGINT, or until one does not end; return what became of the last one.

    Rounds are carried on a thread of their own: a database that does not answer would keep a signal waiting. What is
    broken off is made good by the next watcher's first round, as after `kill -9`.
    """
    pace = Pace(carry, every=every, stop=stop)
    rounds = threading.Thread(target=pace.run, name="watcher", daemon=True)
    with _stopped_by(stop):
        rounds.start()
        while not stop.wait(LOOK_FOR_STUCK):
            if pace.is_stuck:
                limit = format_span(timedelta(seconds=STUCK_SECONDS))
                log.error("incident.io: the watcher's round has not ended for %s; it ends, to be started again", limit)
                return "stuck"
        rounds.join(LAST_STEP_SECONDS)
    return "broken off" if rounds.is_alive() else "ended"


@contextmanager
def _stopped_by(stop: threading.Event) -> Iterator[None]:
    def handle(*_: Any) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
