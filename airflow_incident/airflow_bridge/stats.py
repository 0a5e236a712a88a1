"""What became of a failure: one line in the log, and one count in Airflow's own metrics, wherever it sends them."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.airflow_bridge import compat
from airflow_incident.core.text import log_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_incident.core.text import Redact

log = logging.getLogger(__name__)

_MARKS = frozenset(' "=()\\')
"""What a word must not have that stands in a line of pairs without quotes."""
_OURS = frozenset({"outcome", "source", "error", "seconds"})
"""Facts whose values are this package's own words."""

PREFIX = "incident_io."
"""Beginning of every metric's name; what may follow are the outcomes of delivery/outcome.py."""
SECONDS = "seconds"
"""The timer: how long it took from the callback's start until an incident was open."""


class LogEvent(NamedTuple):
    """One outcome in a line, and how loudly a log should say it; a line beside it has no outcome."""

    outcome: str | None
    level: int
    line: str
    seconds: float | None = None


def log_event(
    outcome: str, level: int, words: str, redact: Redact, *, rest: str = "", seconds: float | None = None, **facts: Any
) -> LogEvent:
    """Say an outcome in one line: to a person first, then in `name=value` pairs to a machine; neither has a secret.

    :param rest: What follows the words as it is: it was redacted before.
    :param facts: What is unset is left out.
    """
    known = {"outcome": outcome, **{name: value for name, value in facts.items() if value not in {None, ""}}}
    if seconds is not None:
        known["seconds"] = f"{seconds:.3f}"
    # Redacted one by one: a pattern that sees the whole line may swallow a quote, or a neighbour.
    safe = {name: str(value) if name in _OURS else redact(str(value)) for name, value in known.items()}
    lines = {name: log_line(value) for name, value in safe.items()}
    pairs = " ".join(
        f"{name}={line if line and _MARKS.isdisjoint(line) else json.dumps(line, ensure_ascii=False)}"
        for name, line in lines.items()
    )
    parts = [log_line(redact(f"incident.io: {words}")), rest, f"({pairs})"]
    return LogEvent(outcome, level, " ".join(filter(None, parts)), seconds)


def journal_warning(why: str, redact: Redact) -> LogEvent:
    """Say what kept the journal from being used, beside an outcome."""
    return LogEvent(None, logging.WARNING, log_line(redact(f"incident.io: the journal cannot be used: {why}")))


def note_warning(note: str, redact: Redact) -> LogEvent:
    """Say what an incident does without, beside an outcome."""
    return LogEvent(None, logging.WARNING, log_line(redact(f"incident.io: {note}")))


def emit(logger: Any, lines: Iterable[LogEvent]) -> None:
    """Write each line, and count its outcome."""
    for said in lines:
        logger.log(said.level, "%s", said.line)
        if said.outcome:
            count(said.outcome, seconds=said.seconds if said.outcome == "opened" else None)


def count(outcome: str, number: int = 1, *, seconds: float | None = None, timer: str = SECONDS) -> None:
    """Add to an outcome's counter, and to a timer. Never raises: a number that is lost harms nobody.

    https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/logging-monitoring/metrics.html
    """
    if not number:
        return
    try:
        compat.Stats.incr(PREFIX + outcome, number)
        if seconds is not None:
            compat.Stats.timing(PREFIX + timer, timedelta(seconds=seconds))
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a callback never harms Airflow
        log.debug("incident.io: a metric could not be sent (%s)", type(error).__name__)
