"""Sending one record: whatever is about to leave is written down first, and what became of it is decided here."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.api.endpoints import Creation
from airflow_incident.api.head import AlertHead, IncidentHead
from airflow_incident.api.submit import Terms, at_once, first_version, prepared, submit
from airflow_incident.core.text import with_notes
from airflow_incident.delivery.journal import ForeignRecordError, OpenIncident, Record, read_record, whole
from airflow_incident.delivery.steps import Ask, Get, Send, Set, Wait
from airflow_incident.errors import APIError, IncidentIoError, MissingConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from datetime import datetime

    from airflow_incident.delivery.report import Report
    from airflow_incident.delivery.steps import Step

SETTLE_SECONDS = 1.5
"""How long a record is left alone before it changes to v2: another process may be about to open it through v1."""


class Sent(NamedTuple):
    """What became of a record that was sent.

    `superseded` says that another process has delivered it meanwhile, `switched` that it had to change to v2.
    """

    record: Record
    answer: IncidentHead | AlertHead | IncidentIoError
    creation: Creation | None = None
    superseded: bool = False
    switched: bool = False


def terms_of(record: Record) -> Terms:
    """Tell how a record that waits is to be sent."""
    return Terms(record.api_version, with_notes)


def settle(report: Report, conn_id: str) -> Generator[Step, Any, Creation | None]:
    """Build the body of a report without asking incident.io; None if names must be looked up first.

    What a strict report cannot have is told before anything is written down.

    :raises IncidentIoError: if the report is strict, and cannot be sent as it is.
    """
    if not report.strict:
        return at_once(report.draft, report.terms)
    steps = prepared(report.draft, report.terms, first_version(report.draft, report.choice))
    try:
        call = next(steps)
        while True:
            answer = yield Ask(call, conn_id)
            call = steps.throw(answer) if isinstance(answer, IncidentIoError) else steps.send(answer)
    except StopIteration as end:
        creation: Creation = end.value
        return creation


def send(
    record: Record, terms: Terms, now: Callable[[], datetime], *, decided: bool = False
) -> Generator[Step, Any, Sent]:
    """Send a record, and decide what becomes of it; writing that down is the caller's.

    :param decided: Whether a person has decided that what an earlier attempt may have opened is not there.
    """
    unsettled = record.maybe_delivered and not decided
    terms = terms._replace(unsettled=unsettled, since=f"{record.written_at:%Y-%m-%d}")
    steps = submit(record.draft, terms, creation=record.creation)
    creation, switched, answer = record.creation, False, None
    try:
        call = next(steps)
        while True:
            if isinstance(call, Creation):
                switched |= creation is not None and creation.via != call.via
                if switched and (other := (yield from _delivered_by_another(record))):
                    return Sent(other, _head_of(other), superseded=True)
                record = yield from _pinned(record, call)
                creation = call
                answer = yield Send(call.body, record.conn_id, call.via)
            else:
                answer = yield Ask(call, record.conn_id)
            call = steps.throw(answer) if isinstance(answer, IncidentIoError) else steps.send(answer)
    except StopIteration as end:
        answer = end.value
    except IncidentIoError as error:
        answer = error
    return Sent(after(record, answer, now()), answer, creation, switched=switched)


def _pinned(record: Record, creation: Creation) -> Generator[Step, Any, Record]:
    """Write down what is about to be sent, unless it is what was written down before."""
    pinned = record.changed(
        body=dict(creation.body), via=creation.via, draft=record.draft if creation.partial else None
    )
    if pinned != record:
        yield Set(pinned.name, pinned.text())
    return pinned


def _delivered_by_another(record: Record) -> Generator[Step, Any, Record | None]:
    """Look whether another process, for which v1 was still there, has delivered a record; None if not."""
    yield Wait(SETTLE_SECONDS)
    found = own_record(record.name, (yield Get(record.name)), record.key)
    return found if found and found.state == "open" else None


def _head_of(record: Record) -> IncidentHead:
    incident = record.incident
    if incident is None:
        return IncidentHead(id=record.key)
    return IncidentHead(id=incident.id, reference=incident.reference, name=incident.name, permalink=incident.permalink)


def own_record(name: str, found: Any, key: str) -> Record | None:
    """Read the record of this very failure; anything else under its name counts as nothing."""
    if not isinstance(found, str):
        return None
    try:
        record = read_record(name, found)
    except ForeignRecordError:
        return None
    return record if record.key == key else None


def after(record: Record, answer: IncidentHead | AlertHead | IncidentIoError, now: datetime) -> Record:
    """Decide what becomes of a record once its request was answered."""
    if isinstance(answer, APIError) and answer.already_open:
        return record.changed(state="open", opened_at=now, body=None, draft=None, error=None, due_at=None)
    if isinstance(answer, AlertHead):
        return record.changed(state="open", opened_at=now, body=None, error=None, due_at=None)
    if not isinstance(answer, IncidentIoError):
        incident = _open_incident(answer, record.body or {})
        return record.changed(
            state="open", opened_at=now, incident=incident, body=None, draft=None, error=None, due_at=None
        )
    wait = answer.retry_after if isinstance(answer, APIError) else None
    maybe_delivered = record.maybe_delivered or answer.maybe_delivered
    # What has surely not arrived is made anew, with the names that could not be looked up.
    anew = record.draft is not None and answer.retryable and not maybe_delivered
    return record.changed(
        body=None if anew else record.body,
        # A connection that is missing refuses nothing: somebody will add it.
        state="pending" if answer.retryable or isinstance(answer, MissingConnectionError) else "dead",
        attempts=record.attempts + 1,
        error=whole(str(answer)),
        due_at=now + timedelta(seconds=wait) if wait else None,
        maybe_delivered=maybe_delivered,
    )


def _open_incident(answer: IncidentHead, body: Mapping[str, Any]) -> OpenIncident:
    """Keep of an incident what tells it later, and how it was opened: in triage, unless a status was asked for."""
    asked_for_status = "status" in body or "incident_status_id" in body
    return OpenIncident(
        id=answer.id,
        reference=answer.reference,
        name=answer.name,
        permalink=answer.permalink,
        began=answer.phase if asked_for_status else "triage",
        was_assigned="incident_role_assignments" in body,
    )
