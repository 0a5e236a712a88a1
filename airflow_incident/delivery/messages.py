"""What a person is told about the journal's records, a line each, by the command and by the flush DAG."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_incident.airflow_bridge.stats import LogEvent, log_event
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.text import format_time, log_line

if TYPE_CHECKING:
    from airflow_incident.delivery.record import Record


def record_line(record: Record) -> str:
    """Say what became of a failure."""
    subject = f"DAG {record.dag_id}, run {record.run_id}"
    failed = f" (failed at {format_time(record.failed_at)})" if record.failed_at else ""
    words = {
        "open": f"{named(record) or record.thing} is open for {subject}{failed}",
        "pending": f"{subject} waits since {format_time(record.written_at)}{failed}, {tries(record)}",
        "grouped": f"{subject}{failed} is grouped under {named(record) or record.storm}",
        "dead": f"{subject}{failed} was refused",
    }
    if record.already_closed:
        words["open"] = f"{named(record) or record.thing} of {subject}{failed} is over"
    why = f": {record.error}" if record.error and record.state in {"pending", "dead"} else ""
    return clean(words[record.state] + why)


def record_event(record: Record) -> LogEvent:
    """Say what became of a failure that had waited, now that incident.io has answered."""
    incident = record.incident
    return log_event(
        "replayed" if record.state == "open" else "dead",
        logging.INFO if record.state == "open" else logging.ERROR,
        record_line(record),
        redact_secrets,
        dag_id=record.dag_id,
        run_id=record.run_id,
        task=record.task,
        source=record.level,
        key=record.sent_key,
        incident=incident and (incident.reference or incident.id),
        link=incident and incident.permalink,
    )


def named(record: Record) -> str:
    """Name the incident of a record, with its address; empty where none is known."""
    incident = record.incident
    return f"{incident.reference or incident.id} {incident.permalink or ''}".rstrip() if incident else ""


def tries(record: Record) -> str:
    """Count the attempts."""
    return {0: "not tried yet", 1: "tried once"}.get(record.attempts, f"tried {record.attempts} times")


def clean(text: str) -> str:
    """Make one line of any text, without what looks like a secret or would talk to a terminal."""
    return log_line(redact_secrets(text))
