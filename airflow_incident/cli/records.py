"""How commands show a record of the journal: to a script, in a table, and how its incident stands now."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.api.incident import incident_label
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.text import log_line
from airflow_incident.core.timing import TEST_BUDGET
from airflow_incident.delivery.outcome import clean
from airflow_incident.errors import IncidentIoError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow_incident.delivery.record import Record

SHORT = 8
"""Characters of a record's digest that stand for it."""
MOST_ASKED = 100
"""Incidents that are asked about at most, with one request each."""
GONE = "gone"
"""What stands for the status of an incident that incident.io does not have."""


class Statuses(NamedTuple):
    """How incidents stand, by ID, in incident.io's words; `problems` are why of others nothing is known."""

    known: Mapping[str, str]
    problems: Sequence[str]


def digest(record: Record) -> str:
    """Return the end of a record's name, of which the beginning is its ID."""
    return record.name.rpartition(".")[2]


def state_of(record: Record) -> str:
    """Say what is known of a record; of what was opened, not what has become of it since, unless somebody looked."""
    if record.state != "open":
        return record.state
    return "closed" if record.already_closed else "opened"


def record_json(record: Record, statuses: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Say a record to a script, each name always there: docs/reference/json.md describes them."""
    of_storm, incident = record.level == "storm", record.incident
    return {
        "id": digest(record)[:SHORT],
        "name": record.name,
        "state": state_of(record),
        "dag_id": None if of_storm else record.dag_id,
        "run_id": None if of_storm else record.run_id,
        "task": record.task,
        "channel": "alert" if record.endpoint == "alert" else "incident",
        "level": record.level,
        "clear_count": record.clear_count,
        "key": record.sent_key,
        "conn_id": record.conn_id,
        "failed_at": _moment(record.failed_at),
        "written_at": _moment(record.written_at),
        "opened_at": _moment(record.opened_at),
        "due_at": _moment(record.due_at),
        "attempts": record.attempts,
        "suppressed": record.suppressed,
        "error": record.error,
        "notes": list(record.notes),
        "storm": record.storm,
        "members": record.members,
        "incident": incident
        and {
            "id": incident.id,
            "reference": incident.reference,
            "permalink": incident.permalink,
            "status": (statuses or {}).get(incident.id),
        },
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def record_row(record: Record, statuses: Mapping[str, str]) -> dict[str, str]:
    """Say a record in a row, by the titles of its columns."""
    incident, members = record.incident, Counter(record.members)
    of_storm = record.level == "storm"
    failed_at = (record.failed_at or record.written_at).astimezone(UTC)
    row = {
        "ID": digest(record)[:SHORT],
        "STATE": state_of(record),
        "DAG": f"storm of {_counted(len(members), 'DAG')}" if of_storm else record.dag_id,
        "RUN": _counted(members.total(), "failure") if of_storm else record.run_id,
        "TASK": record.task or "",
        "FAILED (UTC)": f"{failed_at:%Y-%m-%d %H:%M:%S}",
        "INCIDENT": incident_label(incident) if incident else "(alert)" if record.endpoint == "alert" else "",
        "STATUS": statuses.get(incident.id, "") if incident else "",
        "LINK": (incident.permalink or "") if incident else "",
        "TRIES": str(record.attempts or ""),
        "ERROR": redact_secrets(record.error or (record.closing and record.closing.error) or ""),
    }
    return {title: log_line(text) for title, text in row.items()}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def ask_statuses(records: Iterable[Record]) -> Statuses:
    """Ask incident.io how incidents stand, the newest first, until a connection has an outage."""
    from airflow_incident.airflow_bridge.config import read_config
    from airflow_incident.api.endpoints import show_incident_state

    newest = sorted((r for r in records if r.incident), key=lambda record: record.written_at, reverse=True)
    by_id = {record.incident.id: record for record in newest if record.incident}
    known: dict[str, str] = {}
    outages: dict[str, str] = {}
    for incident_id, record in list(by_id.items())[:MOST_ASKED]:
        if record.conn_id in outages:
            continue
        try:
            state = read_config(record.conn_id).client.call(show_incident_state(incident_id), budget=TEST_BUDGET)
            known[incident_id] = state.status or state.status_category or ""
        except NotFoundError:
            known[incident_id] = GONE
        except IncidentIoError as error:
            outages[record.conn_id] = f"{str(error).rstrip('.')}. {error.advice}"
    problems = [
        clean(f"connection {conn_id} cannot tell how its incidents stand: {why}") for conn_id, why in outages.items()
    ]
    if len(by_id) > MOST_ASKED:
        problems.append(f"only the newest {MOST_ASKED} of {len(by_id)} incidents were asked about")
    return Statuses(known, problems)
