"""Which incidents a DAG has, as far as its journal knows; whether they are still open, incident.io tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_incident.core.key import dag_key, idempotency_key
from airflow_incident.delivery.journal import ForeignRecordError, read_record, record_name, whole
from airflow_incident.delivery.reporter import STORM
from airflow_incident.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_incident.core.failure import Failure
    from airflow_incident.delivery.journal import Record, Store


def opened_by(failure: Failure, *, deployment: str, store: Store) -> dict[str, str]:
    """Tell the incidents that failures of a DAG are in, each with the connection that it was opened with.

    Where Variables cannot be listed, only the records of this run, at scope `run`, and of the DAG, at scope `dag`,
    are found.

    :raises JournalError: if the journal cannot be read.
    """
    incidents: dict[str, str] = {}
    try:
        for record in _records(failure, deployment, store):
            # A failure that was gathered is in an incident that another one has opened.
            holder = _storm_of(record, store) if record.state == "gathered" and not record.incident else record
            if holder is not None and holder.incident is not None:
                incidents[holder.incident.id] = holder.conn_id
    except JournalError:
        raise
    except (Exception, SystemExit) as error:  # a secrets backend may raise anything
        raise JournalError(f"the journal cannot be read: {type(error).__name__}: {error}") from error
    return incidents


def _records(failure: Failure, deployment: str, store: Store) -> Iterator[Record]:
    prefix = record_name(failure.dag_id, "").rpartition(".")[0] + "."
    try:
        # A DAG called `a` also begins the names of one called `a.b`.
        names, listed = [name for name in store.names(prefix) if "." not in name.removeprefix(prefix)], True
    except NotImplementedError:
        names, listed = [record_name(failure.dag_id, key) for key in _own_keys(failure, deployment)], False
    for name in names:
        text = store.get(name)
        if text is None and listed:
            raise JournalError(f"the journal cannot be read: {name} is listed, but not given")
        record = _read(name, text)
        if record is not None and record.dag_id == whole(failure.dag_id) and record.state in {"open", "gathered"}:
            yield record


def _own_keys(failure: Failure, deployment: str) -> Iterator[str]:
    yield dag_key(deployment, failure.dag_id)
    for count in range(failure.clear_count + 1):
        yield idempotency_key(failure._replace(clear_count=count), deployment=deployment)


def _storm_of(record: Record, store: Store) -> Record | None:
    if not record.storm:
        return None
    name = record_name(STORM, record.storm)
    return _read(name, store.get(name))


def _read(name: str, text: str | None) -> Record | None:
    try:
        return None if text is None else read_record(name, text)
    except ForeignRecordError:
        return None
