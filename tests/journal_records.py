"""Records in the journal of the tests' own Airflow, as a failure would leave them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.core.failure import Failure
from airflow_incident.core.settings import Settings
from airflow_incident.delivery.record import OpenIncident, Record, read_record
from airflow_incident.delivery.report import IncidentContent, by_hand, prepare

FAILED = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
INCIDENT = OpenIncident(id="01H", reference="INC-7", permalink="https://app.incident.io/x/incidents/7")


def keep(run: str = "r1", dag: str = "orders", state: Any = "pending", **fields: Any) -> Record:
    """Write a record down; one that is open or grouped has sent its body."""
    failure = Failure(dag_id=dag, run_id=run, level="dag", failed_at=FAILED)
    report = prepare(failure, Settings(), IncidentContent(), deployment="tests", redact=str)
    given = {
        "state": state,
        "key": report.key,
        "dag_id": dag,
        "run_id": run,
        "conn_id": "incident_io_default",
        "level": "dag",
        "failed_at": FAILED,
        "written_at": datetime.now(UTC) - timedelta(minutes=1),
        "body": dict(by_hand(report).body) if state not in {"open", "grouped"} else None,
        "incident": INCIDENT if state == "open" else None,
    }
    record = Record(**given | fields)
    Variables().set(record.name, record.text())
    return record


def kept(name: str) -> Record | None:
    """Read a record back."""
    text = Variables().get(name)
    return None if text is None else read_record(name, text)


def forget_all() -> None:
    """Empty the journal."""
    store = Variables()
    for name in store.names("incident_io"):
        store.delete(name)
