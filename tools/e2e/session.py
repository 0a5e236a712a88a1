"""What every session does with a real Airflow: words, health, waits with a limit, a neighbour who must not notice."""

import itertools
import time
from collections.abc import Callable

from airflow_incident.sandbox.server import Sandbox
from tools.e2e.installation import Installation
from tools.stage import WEB
from tools.watch import Watch
from tools.wire import Wire

ENDED = {"failed", "success"}
FINISH, HEALTH = 60, 90
"""Seconds that are waited, at most, for the neighbour and for Airflow's health."""
SESSION = 18 * 60
"""Seconds after which nothing is waited for."""


class Session:
    """One Airflow in trouble; `remarks` is what took too long, in words."""

    def __init__(self, installation: Installation, watch: Watch, box: Sandbox, wire: Wire) -> None:
        self.installation, self.watch, self.box, self.wire = installation, watch, box, wire
        self.began = time.monotonic()
        self.away: list[tuple[float, float]] = []
        self.errands = 0
        self.remarks: list[str] = []

    def neighbour_works(self) -> None:
        """Trigger a plain run of the neighbour's, and wait for its end."""
        run_id = f"works.{self.errands}.e2e"
        self.errands += 1
        self.until_answered(lambda: self.airflow.trigger("neighbour_works", run_id))
        self.wait("the neighbour works", lambda: self.states().get(run_id) in ENDED, FINISH)

    def neighbours(self) -> list[str]:
        """Name the neighbour's runs."""
        return ["waits.e2e", *(f"works.{number}.e2e" for number in range(self.errands))]

    def states(self) -> dict[str, str]:
        """Return the state of each run by its ID."""
        return {run_id: run["state"] for run_id, run in (self.airflow.runs() or {}).items()}

    def give(self, word: str) -> None:
        """Give the DAGs a word."""
        (self.installation.words / word).touch()

    def await_health(self) -> None:
        """Wait until Airflow finds all of itself healthy."""
        needed = [name.replace("-", "_") for name in self.installation.components if name != WEB]
        healthy = lambda: self.airflow.unready(*needed) == []  # noqa: E731
        if self.wait("Airflow recovers", healthy, HEALTH):
            return
        if self.installation.is_shaken:
            for name in self.installation.components:
                if name.replace("-", "_") in (self.airflow.unready(*needed) or ()):
                    self.installation.revive(name)
            if self.wait("Airflow recovers", healthy, HEALTH):
                return
        if (sick := self.airflow.unready(*needed)) != []:
            self.remarks.append(f"not healthy: {', '.join(sick or ['the API'])}")

    def until_answered(self, ask: Callable[[], object]) -> None:
        """Ask Airflow until it answers, for a while."""
        self.wait("asking Airflow", lambda: ask() is not None, 10)

    def pause(self, seconds: float, text: str) -> None:
        """Let time pass."""
        self.wait(text, lambda: False, seconds)

    def wait(self, text: str, done: Callable[[], bool], seconds: float, every: float = 0.5) -> bool:
        """Wait for something, and look after the components meanwhile; tell whether it came."""
        over = min(time.monotonic() + seconds, self.began + SESSION)

        def look() -> tuple[str, bool | None]:
            self.installation.tend()
            if done():
                return text, True
            return text, False if time.monotonic() > over else None

        return self.watch.until(look, seconds=seconds + 60, every=every)

    def say(self, text: str) -> None:
        """Say what has happened, and when."""
        self.watch.say(f"{time.monotonic() - self.began:5.0f} s  {text}")

    def silence(self) -> float:
        """Measure the longest time between two signs of life of the neighbour's trigger while nothing was away."""
        beats = self.installation.words / "beats"
        times = [float(line) for line in beats.read_text().splitlines()] if beats.exists() else []
        pairs = itertools.pairwise(times)
        return max((two - one for one, two in pairs if not self.was_away(one, two)), default=float("inf"))

    def was_away(self, one: float, two: float) -> bool:
        """Whether the database was away at some time between two moments."""
        return any(one < end and begin < two for begin, end in self.away)
