"""Which incidents a DAG has, as far as its journal knows; whether they are still open, incident.io tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_incident.core.account import is_incident_page
from airflow_incident.core.key import dag_key, idempotency_key
from airflow_incident.delivery.record import (
    STORM,
    UnreadableRecordError,
    dag_prefix,
    is_of_dag,
    read_record,
    record_name,
    replace_surrogates,
)
from airflow_incident.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_incident.core.failure import Failure
    from airflow_incident.delivery.record import Record, Store


def opened_by(failure: Failure, *, deployment: str, conn_id: str, store: Store) -> dict[str, str]:
    """Tell the incidents that failures of a DAG are in, each with the connection that it was opened with.

    Where Variables cannot be listed, only the records of this run, at scope `run`, and of the DAG, at scope `dag`,
    are found.

    :param conn_id: Connection whose record of the DAG is looked for then.
    :raises JournalError: if the journal cannot be read.
    """
    incidents: dict[str, str] = {}
    try:
        for record in _records(failure, deployment, conn_id, store):
            holder = _holder(record, store.get)
            if holder is not None and holder.incident is not None:
                incidents[holder.incident.id] = holder.conn_id
    except JournalError:
        raise
    except (Exception, SystemExit) as error:  # a secrets backend may raise anything
        raise JournalError(f"the journal cannot be read: {type(error).__name__}: {error}") from error
    return incidents


def page_of(failure: Failure, texts: Mapping[str, str], get: Callable[[str], str | None]) -> str:
    """Return the page of the newest incident that stands for a task instance of a run; empty if none does.

    A task's own goes before the run's, and a failure's before one that a step of the DAG has opened.

    :param texts: What the journal holds under `dag_prefix`, by name.
    :param get: Reads another of its texts.
    :raises UnreadableRecordError: if nothing is found, but there is something that cannot be read.
    """
    run_id = json.dumps(replace_surrogates(failure.run_id), ensure_ascii=False)
    pages: list[tuple[tuple[Any, ...], str]] = []
    broken: UnreadableRecordError | None = None
    for name, text in texts.items():
        if run_id not in text:  # most are about other runs, and to read one takes longer
            continue
        try:
            record = read_record(name, text)
        except UnreadableRecordError as error:
            broken = error
            continue
        if record.is_of(failure.dag_id, failure.run_id) and record.covers(failure):
            holder = _holder(record, get)
            page = (holder and holder.incident and holder.incident.permalink) or ""
            if is_incident_page(page):
                newest = (record.clear_count, record.is_of_task, record.level != "operator", record.written_at)
                pages.append((newest, page))
    if not pages and broken:
        raise broken
    return max(pages)[1] if pages else ""


def _records(failure: Failure, deployment: str, conn_id: str, store: Store) -> Iterator[Record]:
    prefix = dag_prefix(failure.dag_id)
    try:
        names, listed = [name for name in store.names(prefix) if is_of_dag(name, failure.dag_id)], True
    except NotImplementedError:
        names, listed = [record_name(failure.dag_id, key) for key in _own_keys(failure, deployment, conn_id)], False
    for name in names:
        text = store.get(name)
        if text is None and listed:
            raise JournalError(f"the journal cannot be read: {name} is listed, but not given")
        record = _read(name, text)
        if record is not None and record.dag_id == replace_surrogates(failure.dag_id) and record.is_delivered:
            yield record


def _own_keys(failure: Failure, deployment: str, conn_id: str) -> Iterator[str]:
    yield dag_key(deployment, failure.dag_id, conn_id)
    for count in range(failure.clear_count + 1):
        yield idempotency_key(failure._replace(clear_count=count), deployment=deployment)


def _holder(record: Record, get: Callable[[str], str | None]) -> Record | None:
    """Find the record that has the incident: a failure that was grouped is in one that another has opened."""
    if record.state != "grouped" or record.incident:
        return record
    name = record_name(STORM, record.storm or "")
    return _read(name, get(name)) if record.storm else None


def _read(name: str, text: str | None) -> Record | None:
    try:
        return None if text is None else read_record(name, text)
    except UnreadableRecordError:
        return None
