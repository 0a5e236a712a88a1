"""What became of a failure: one line in the log, and one count in Airflow's own metrics, wherever it sends them."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.airflow_bridge import compat
from airflow_incident.core.text import log_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_incident.core.text import Redact

log = logging.getLogger(__name__)

_MARKS = frozenset(' "=()\\')
"""What a word must not have that stands in a line of pairs without quotes."""
_OURS = frozenset({"outcome", "source", "error", "seconds"})
"""Facts whose values are this package's own words."""

PREFIX = "incident_io."
OUTCOMES: Mapping[str, str] = MappingProxyType(
    {
        "opened": "incidents opened, and alerts sent, at once",
        "deduplicated": "reports of what an incident, or a record in the journal, stands for already",
        "grouped": "failures beyond the storm limit: one incident, opened with the first of them, names them all",
        "joined": "failures that joined an incident which was open: the DAG's, or that of the run's earlier attempt",
        "suppressed": "callbacks with nothing to do: `enabled` is false, there is no such connection, another "
        "attempt is coming, or there is no journal that says what to close",
        "journalled": "failures kept in the journal, to be delivered later",
        "replayed": "incidents opened, and alerts sent, out of the journal",
        "dead": "failures that incident.io refused for good; they wait in the journal for somebody who fixes the cause",
        "dropped": "failures neither sent nor kept: the log has all that was known",
        "recovered": "incidents closed, and alerts resolved, because the run recovered",
        "already_closed": "incidents of a recovered run that somebody had closed before",
        "left_open": "recoveries that closed nothing: a person has the incident, it stands for several failures, or "
        "incident.io or the journal could not be asked or refused",
        "withdrawn": "failures that were waiting or refused when their run recovered: they are not sent any more",
    }
)
"""Every outcome: the counter's name, which the line has too, and what it counts."""
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


def count(outcome: str, number: int = 1, *, seconds: float | None = None) -> None:
    """Add to an outcome's counter, and to the timer. Never raises: a number that is lost harms nobody.

    https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/logging-monitoring/metrics.html
    """
    if not number:
        return
    try:
        compat.Stats.incr(PREFIX + outcome, number)
        if seconds is not None:
            compat.Stats.timing(PREFIX + SECONDS, timedelta(seconds=seconds))
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a callback never harms Airflow
        log.debug("incident.io: a metric could not be sent (%s)", type(error).__name__)
