"""Joining: a failure that an open incident takes, of its DAG or of an earlier attempt of its run. Generators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_incident.api.incident import IncidentState
from airflow_incident.core.key import open_key
from airflow_incident.core.markdown import escape
from airflow_incident.core.text_edits import completed, failed_again, with_first_line
from airflow_incident.delivery.addition import Addition, add
from airflow_incident.delivery.effects import Get, Set, Show, StoreFailed
from airflow_incident.delivery.outcome import ReportResult
from airflow_incident.delivery.record import Record, record_name
from airflow_incident.delivery.report import late_note
from airflow_incident.delivery.sending import own_record
from airflow_incident.delivery.storm import is_of_other_type, like_of
from airflow_incident.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from airflow_incident.delivery.effects import Effect
    from airflow_incident.delivery.report import DeliveryPolicy, Report


def join_incident_of_dag(
    report: Report, record: Record, policy: DeliveryPolicy
) -> Generator[Effect, Any, ReportResult | str | Record | None]:
    """Let the incident that the DAG has open take the failure; if it has none, return the key that opens one.

    Runs that fail together ask with the same key, so that incident.io makes one incident of them. None where the run's
    own key opens one that is the DAG's from then on: nobody can tell what it has open, or that is a test. A record
    where the failure is none of the DAG's: its incident is its own run's, and the DAG's stays as it is.
    """
    became = yield from _join_open(record, {**report.draft, **(record.body or {})}, may_ask=policy.send)
    if not isinstance(became, Record) or became.state != "grouped":
        return became
    return ReportResult(kind="joined", report=report, incident=became.incident, storm=became.storm, before="opened")


def rejoin(record: Record) -> Generator[Effect, Any, Record]:
    """Let the incident that its DAG has open by now take a failure that has waited; else return it as it is to be sent.

    In an outage nobody could tell; each run's own incident would take the DAG's place, and nobody close those before.
    An attempt that may have taken effect is no reason to send it again: at worst that makes two incidents either way.
    """
    if not record.of_dag or record.on_dags_key:
        return record
    wanted = {**(record.like or {}), **(record.draft or {}), **(record.body or {})}
    became = yield from _join_open(record, wanted, may_ask=True)
    return became if isinstance(became, Record) else record


def _join_open(
    record: Record, wanted: Mapping[str, Any], *, may_ask: bool
) -> Generator[Effect, Any, Record | str | None]:
    """Return the record as it is written down under the DAG's incident, or what else `join_incident_of_dag` returns."""
    key = record.of_dag or ""
    name = record_name(record.dag_id, key)
    stored = yield Get(name)
    if stored is None:
        return open_key(key, after=None)
    found = own_record(name, stored, key)
    if not found or not found.incident or found.conn_id != record.conn_id:
        return None
    if not found.already_closed:
        shown = (yield Show(found.incident.id, found.conn_id)) if may_ask else None
        is_past = isinstance(shown, NotFoundError) or (isinstance(shown, IncidentState) and shown.is_past)
        if not is_past:
            return (yield from _join_shown(record, wanted, found, shown))
    return open_key(key, after=found.incident.id)


def _join_shown(
    record: Record, wanted: Mapping[str, Any], found: Record, shown: Any
) -> Generator[Effect, Any, Record | None]:
    if not isinstance(shown, IncidentState):
        return None
    if _stands_apart(wanted, found, shown):
        # A test makes room for what is real: every later failure would stand apart from it.
        return None if shown.mode == "test" else record._replace(of_dag=None)
    joined = _under(record, found)
    if isinstance((yield Set(record.name, joined.text())), StoreFailed):
        return None
    yield Set(found.name, found.joined(joined)._replace(closing=None).text())
    return joined


def join_earlier_attempt(
    report: Report, record: Record, policy: DeliveryPolicy
) -> Generator[Effect, Any, ReportResult | str | None]:
    """Let the incident of an earlier attempt of the run take the failure, and tell it so; None if none is open.

    The run was cleared, and has failed again. Where nobody can tell how that incident stands, it gets one of its own.
    """
    wanted = {**report.draft, **(record.body or {})}
    for key in report.earlier_keys:
        name = record_name(report.failure.dag_id, key)
        found = own_record(name, (yield Get(name)), key)
        if found is None:
            continue
        if not policy.send or not found.incident or found.already_closed or found.conn_id != policy.conn_id:
            return None
        shown = yield Show(found.incident.id, found.conn_id)
        if not isinstance(shown, IncidentState) or shown.is_past or _stands_apart(wanted, found, shown):
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


def _stands_apart(wanted: Mapping[str, Any], found: Record, shown: IncidentState) -> bool:
    """Return whether a failure is not for everybody who sees an incident, or one of them is a test.

    What nobody is known to see alone, another incident type may be for: some are for private incidents only.
    """
    is_public = shown.visibility != "private"
    if is_public and (wanted.get("visibility") == "private" or is_of_other_type(like_of(wanted), found.like)):
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
    is_apart = report.draft.get("visibility") == "private" or is_of_other_type(like_of(report.draft), record.like)
    if is_apart and not (record.incident and record.incident.is_private):
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
        state="grouped",
        storm=found.storm or found.key,
        incident=found.incident,
        body=None,
        draft=None,
        error=None,
        due_at=None,
    )
