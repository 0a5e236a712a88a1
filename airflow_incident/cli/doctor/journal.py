"""Whether the journal can be written and read where this runs, and what waits in it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli.doctor import Finding
from airflow_incident.core.settings import merge
from airflow_incident.delivery.outcome import FlushResult, problems
from airflow_incident.delivery.record import utc_now
from airflow_incident.delivery.run import list_records
from airflow_incident.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_incident.airflow_bridge.config import AirflowConfig

PROBE_PREFIX = "incident_io_doctor."
"""Beginning of the name of what is written to see whether one can; it is deleted at once."""
_DATABASE_ADVICE = "Run this where Airflow's database is, migrated and writable; see 'airflow db check'."
_BACKEND_ADVICE = (
    "Keep the backend from Variables: in its backend_kwargs set variables_prefix, or what it calls that, to null."
)
_LOOK_ADVICE = "See: airflow-incident journal list"


def examine_journal(airflow_config: AirflowConfig) -> Iterator[Finding]:
    """Write a Variable, read it back, delete it, and count what waits."""
    settings, *_ = merge(arguments={}, connection={}, config=airflow_config.config)
    if not settings.journal:
        told = "[incident_io] journal is false: a failure that cannot be sent at once is lost"
        yield Finding("warning", "journal", told, "Set it to true, or remove it.")
        return
    yield from _backends()
    trouble = _trouble()
    if trouble is not None:
        yield trouble
        return
    yield Finding("ok", "journal", "can be written, read and listed")
    yield _waiting()


def _backends() -> Iterator[Finding]:
    """Tell what is asked before Airflow's database is.

    https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html
    """
    from airflow_incident.airflow_bridge.compat import conf

    for section, option in (("secrets", "backend"), ("workers", "secrets_backend")):
        if backend := conf.get(section, option, fallback=""):
            told = f"[{section}] {option} is {backend}, which is asked for each record before the database"
            yield Finding("warning", "journal", told, _BACKEND_ADVICE)
    if conf.getboolean("secrets", "use_cache", fallback=False):
        yield Finding("ok", "journal", "[secrets] use_cache is on; the journal is read past that cache")


def _trouble() -> Finding | None:
    """Tell what keeps a Variable from being written, read back, listed or deleted."""
    store, name = Variables(), f"{PROBE_PREFIX}{uuid4().hex}"
    step = "written"
    try:
        store.set(name, name)
        step = "read"
        text = store.get(name)
        step = "listed"
        listed = name in store.names(PROBE_PREFIX)
        step = "deleted"
        store.delete(name)
    except Exception as error:  # noqa: BLE001 -- a store raises whatever its backend raises
        with contextlib.suppress(Exception):
            store.delete(name)
        told = f"it cannot be {step} ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        return Finding("error", "journal", told, _DATABASE_ADVICE)
    if text != name or not listed:
        told = "what is written is not what is read: a secrets backend or another database stands between"
        return Finding("error", "journal", told, _BACKEND_ADVICE)
    return None


def _waiting() -> Finding:
    try:
        records, unreadable = list_records()
    except JournalError as error:
        return Finding("error", "journal", str(error).partition(chr(10))[0], _DATABASE_ADVICE)
    parts = {state: [record for record in records if record.state == state] for state in ("pending", "dead")}
    seen = FlushResult(pending=parts["pending"], dead=parts["dead"], unreadable=unreadable)
    if concern := problems(seen, utc_now()):
        return Finding("warning", "journal", concern, _LOOK_ADVICE)
    if unreadable:
        told = f"{len(unreadable)} of its names hold something else, which is left alone"
        return Finding("warning", "journal", told, _LOOK_ADVICE)
    return Finding("ok", "journal", f"{len(parts['pending']) or 'nothing'} waiting, {len(records)} records in all")
