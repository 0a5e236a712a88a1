"""What would become of a run's failure, and what has: its key, the settings and where they come from, its records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from airflow_incident.airflow_bridge.config import examine_config, read_airflow_config
from airflow_incident.cli.doctor.auto_callbacks import explain_policy
from airflow_incident.constants import CONFIG_SECTION, DEFAULT_CONN_ID, TASK_SCOPES
from airflow_incident.core.failure import Failure
from airflow_incident.core.key import ALERT_MARK, dag_key, earlier_keys, idempotency_key, scope_of, started_key
from airflow_incident.core.settings import OPTIONS, TAG
from airflow_incident.delivery.record import Record, dag_prefix, record_name
from airflow_incident.delivery.run import list_records
from airflow_incident.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.constants import Scope


class Setting(NamedTuple):
    """An option as a failure of this connection would meet it."""

    name: str
    value: str
    origin: str


class Explanation(NamedTuple):
    """The answer; `clear_count` is how often the run was cleared, `notes` what the reader should know as well."""

    key: str
    record: str
    scope: Scope
    clear_count: int
    settings: Sequence[Setting]
    records: Sequence[Record]
    notes: Sequence[str]


def explain(
    dag_id: str, run_id: str, *, conn_id: str | None, task_id: str | None, clear_count: int | None
) -> Explanation:
    """Explain a failure as far as it can be known without its DAG file.

    :param conn_id: The connection; None takes what zero touch takes, or the default.
    :param clear_count: How often the run had been cleared; None asks Airflow's database.
    :raises ContextError: if the DAG id or the run id is empty.
    """
    airflow_config = read_airflow_config()
    wishes, touched = explain_policy(dag_id, airflow_config)
    config = examine_config(conn_id or wishes.conn_id or DEFAULT_CONN_ID, airflow_config, severity=wishes.severity)
    notes: list[str] = [*touched]
    failure = _failure(dag_id, run_id, task_id, clear_count, notes)
    scope = scope_of(failure, config.settings.scope)
    key = idempotency_key(failure, deployment=config.deployment, scope=scope)
    earlier = earlier_keys(failure, deployment=config.deployment, scope=scope)
    keys = {key, *earlier, dag_key(config.deployment, dag_id)}
    records = _records(failure, keys | {f"{ALERT_MARK}{one}" for one in keys}, notes)
    notes += _remarks(config, failure, scope)
    notes += _later_key(failure, config.deployment, scope)
    return Explanation(
        key, record_name(dag_id, key), scope, failure.clear_count, list(_settings(config)), records, notes
    )


def _failure(dag_id: str, run_id: str, task_id: str | None, clear_count: int | None, notes: list[str]) -> Failure:
    """Make the failure of what is given, and of what Airflow's database says of the run."""
    run_type = started_at = None
    try:
        found = _run(dag_id, run_id)
    except Exception as error:  # noqa: BLE001 -- a database raises whatever its driver raises
        notes.append(f"Airflow's database cannot be asked about the run ({type(error).__name__}).")
    else:
        if found is None:
            notes.append("Airflow's database has no such run.")
        else:
            known, run_type, started_at = found
            clear_count = known if clear_count is None else clear_count
            if clear_count != known:
                notes.append(f"Airflow's database says that the run was cleared {known} times.")
    return Failure(
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        level="task" if task_id else "dag",
        clear_count=clear_count or 0,
        run_type=run_type,
        started_at=started_at,
    )


def _run(dag_id: str, run_id: str) -> tuple[int, str, datetime | None] | None:
    """Read how often a run was cleared, its type, and when it began."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    columns = select(DagRun.clear_number, DagRun.run_type, DagRun.start_date)
    with create_session() as session:
        row = session.execute(columns.where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).first()
    return None if row is None else (row[0] or 0, str(getattr(row[1], "value", row[1])), row[2])


def _records(failure: Failure, keys: set[str], notes: list[str]) -> list[Record]:
    """Find what the journal holds of this failure, of the run's others, and of what the DAG has open."""
    try:
        records, unreadable = list_records(dag_prefix(failure.dag_id))
    except JournalError as error:
        notes.append(f"The journal cannot be read: {str(error).partition(chr(10))[0]}.")
        return []
    names = {record_name(failure.dag_id, key) for key in keys}
    notes += [f"{name} holds something that is not ours: {why}." for name, why in unreadable.items() if name in names]
    found = [record for record in records if record.key in keys or record.is_of(failure.dag_id, failure.run_id)]
    return sorted(found, key=lambda record: (record.clear_count, record.written_at))


def _settings(config: ConnectionConfig) -> Iterator[Setting]:
    """Tell each option's value, and which place has set it."""
    arguments = {"severity": f"tag {TAG}severity of the DAG", "channel": f"no API key in connection {config.conn_id}"}
    where = {"connection": f"connection {config.conn_id}", "config": f"[{CONFIG_SECTION}] in airflow.cfg"}
    for name, option in OPTIONS.items():
        value = getattr(config.settings, name)
        # Airflow answers with the declared default where airflow.cfg has none; the two cannot be told apart.
        place = config.origins.get(name, "")
        origin = arguments[name] if place == "argument" else where.get(place, "default")
        if value == option.default:
            origin = "default"
        if name == "deployment" and value is None:
            origin = config.airflow_config.base_url_option if config.airflow_config.name else "default"
            value = config.deployment
        if option.secret:
            value = value and "***"
        if isinstance(value, tuple):
            value = ", ".join(value)
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | bool) else str(value or "")
        yield Setting(name, config.redact(text), origin)


def _later_key(failure: Failure, deployment: str, scope: Scope) -> Iterator[str]:
    """Say which key the failure has if its run was deleted and made again."""
    if later := started_key(failure, deployment=deployment, scope=scope):
        yield f"If the incident of this key was over before the run began, it was made again, and its key is {later}."


def _remarks(config: ConnectionConfig, failure: Failure, scope: Scope) -> Iterator[str]:
    if failure.run_type == "backfill" and config.settings.scope == "run":
        yield "Backfill runs count as scope dag."
    if scope == "dag":
        yield "At scope dag an incident that the DAG has open takes the failure; else its runs share the next key."
    if scope in TASK_SCOPES and failure.task_id is None:
        yield f"At scope {scope} each task has a key of its own, with --task; this is the run's."
    if scope == "task_instance" and failure.task_id is not None:
        yield "A mapped task's key also ends in /map/ and its index."
    if not config.settings.journal:
        yield "The journal is turned off: [incident_io] journal is false."
    if config.unusable:
        then = "each failure is one line in the log" if config.is_absent else "failures are kept until it is fixed"
        yield f"No incident can be opened, {then}: {config.unusable}. {config.unusable.advice}"
    elif config.for_alerts_alone:
        yield "The connection has no API key: only channel alert can use it."
    if not config.airflow_config.enabled:
        yield "Incidents are turned off: [incident_io] enabled is false."
    yield from config.notes
    yield "An argument in the DAG file, which is unknown here, goes before each of these settings."
