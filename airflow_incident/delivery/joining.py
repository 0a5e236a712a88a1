"""Joining: a failure that an open incident takes, of its DAG or of an earlier attempt of its run. Generators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_incident.api.incident import IncidentState
from airflow_incident.core.key import dag_key, open_key
from airflow_incident.core.markdown import escape
from airflow_incident.core.text_edits import completed, failed_again, with_first_line
from airflow_incident.delivery.addition import Addition, add
from airflow_incident.delivery.effects import Get, Set, Show, StoreFailed
from airflow_incident.delivery.outcome import ReportResult
from airflow_incident.delivery.record import record_name
from airflow_incident.delivery.report import late_note
from airflow_incident.delivery.sending import own_record
from airflow_incident.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Generator

    from airflow_incident.delivery.effects import Effect
    from airflow_incident.delivery.record import Record
    from airflow_incident.delivery.report import DeliveryPolicy, Report


def join_incident_of_dag(
    report: Report, record: Record, policy: DeliveryPolicy
) -> Generator[Effect, Any, ReportResult | str | Record | None]:
    """Let the incident that the DAG has open take the failure; if it has none, return the key that opens one.

    Runs that fail together ask with the same key, so that incident.io makes one incident of them. None where nobody can
    tell what the DAG has open: the run's own key opens one. A record where the failure is none of the DAG's: its
    incident is its own run's, and the DAG's stays as it is.
    """
    key = dag_key(policy.deployment, report.failure.dag_id, policy.conn_id)
    name = record_name(report.failure.dag_id, key)
    stored = yield Get(name)
    if stored is None:
        return open_key(key, after=None)
    found = own_record(name, stored, key)
    if not found or not found.incident or found.conn_id != policy.conn_id:
        return None
    if not found.already_closed:
        shown = (yield Show(found.incident.id, found.conn_id)) if policy.send else None
        is_past = isinstance(shown, NotFoundError) or (isinstance(shown, IncidentState) and shown.is_past)
        if not is_past:
            return (yield from _join_open(report, record, found, shown))
    return open_key(key, after=found.incident.id)


def _join_open(
    report: Report, record: Record, found: Record, shown: Any
) -> Generator[Effect, Any, ReportResult | Record | None]:
    if not isinstance(shown, IncidentState):
        return None
    if _stands_apart(report, record, shown):
        # A test makes room for what is real: every later failure would stand apart from it.
        return None if shown.mode == "test" else record._replace(of_dag=None)
    joined = _under(record, found)
    if isinstance((yield Set(record.name, joined.text())), StoreFailed):
        return None
    yield Set(found.name, found.joined(joined)._replace(closing=None).text())
    return ReportResult(kind="joined", report=report, incident=found.incident, storm=found.key, before="opened")


def join_earlier_attempt(
    report: Report, record: Record, policy: DeliveryPolicy
) -> Generator[Effect, Any, ReportResult | str | None]:
    """Let the incident of an earlier attempt of the run take the failure, and tell it so; None if none is open.

    The run was cleared, and has failed again. Where nobody can tell how that incident stands, it gets one of its own.
    """
    for key in report.earlier_keys:
        name = record_name(report.failure.dag_id, key)
        found = own_record(name, (yield Get(name)), key)
        if found is None:
            continue
        if not policy.send or not found.incident or found.already_closed or found.conn_id != policy.conn_id:
            return None
        shown = yield Show(found.incident.id, found.conn_id)
        if not isinstance(shown, IncidentState) or shown.is_past or _stands_apart(report, record, shown):
            return None
        joined = _under(record, found)
        if isinstance((yield Set(joined.name, joined.text())), StoreFailed):
            return None
        if found.closing:  # what a recovery has left to do is not to be done any more
            found = found._replace(closing=None)
            yield Set(found.name, found.text())
        told = yield from add(found, _again(report), shown)
        if told and told != found:
            yield Set(told.name, told.text())
            yield Set(joined.name, joined._replace(incident=told.incident).text())
        return ReportResult(kind="joined", report=report, incident=found.incident, storm=joined.storm, before="opened")
    return None


def _stands_apart(report: Report, record: Record, shown: IncidentState) -> bool:
    """Return whether a failure is not for everybody who sees an incident, or one of them is a test."""
    wanted = {**report.draft, **(record.body or {})}
    if wanted.get("visibility") == "private" != shown.visibility:
        return True
    return shown.mode is not None and (wanted.get("mode") == "test") != (shown.mode == "test")


def _again(report: Report) -> Addition:
    failure = report.failure
    return Addition(
        edit=lambda text: with_first_line(text, failed_again(failure, str(report.draft["summary"]))),
        title=f"Failed again: {report.draft['name']}",
        url=failure.log_url or failure.run_url,
        notify=True,
    )


def tell_late(report: Report, record: Record) -> Generator[Effect, Any, Record]:
    """Tell the incident that a task has opened what the DAG's callback knows; return the record as it is to be kept.

    One that stands for other runs, too, has a text of its own. What is private is not told to everybody.
    """
    if report.draft.get("visibility") == "private" and not (record.incident and record.incident.is_private):
        return record
    is_others = record.state == "grouped" and record.storm not in report.earlier_keys
    note = late_note(report.failure, known=record.task)
    if is_others or report.failure.level != "dag" or record.level != "task" or not note:
        return record
    newest = str(report.draft.get("summary"))
    edit = lambda text: completed(text, newest) or with_first_line(text, escape(note))  # noqa: E731
    told = yield from add(record, Addition(edit, note, report.failure.run_url))
    return told._replace(attached_late=True) if told else record


def _under(record: Record, found: Record) -> Record:
    """Write a failure down under an incident that is open."""
    return record._replace(
        state="grouped", storm=found.storm or found.key, incident=found.incident, body=None, draft=None
    )
