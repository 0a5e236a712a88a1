"""Sending one record: whatever is about to leave is written down first, and what became of it is decided here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.api.calls import PreparedCreate
from airflow_incident.api.incident import AlertState, IncidentState
from airflow_incident.api.submit import NOT_LOOKED_UP, SubmitOptions, at_once, first_version, prepared, submit
from airflow_incident.core.key import open_key
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.text_edits import is_written_here, with_notes
from airflow_incident.core.timing import SETTLE_SECONDS, UNTOUCHED
from airflow_incident.delivery.addition import text_mark
from airflow_incident.delivery.effects import Ask, Get, Send, Set, Show, Sleep
from airflow_incident.delivery.record import (
    OpenIncident,
    Record,
    UnreadableRecordError,
    read_record,
    record_name,
    replace_surrogates,
)
from airflow_incident.errors import (
    AmbiguousDeliveryError,
    APIError,
    ConflictError,
    IncidentIoError,
    UnexpectedResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from airflow_incident.delivery.effects import Effect
    from airflow_incident.delivery.report import Report


_LOOKS = 2
"""How often what a DAG has open is looked at, and written if somebody else wrote it meanwhile."""


class Sent(NamedTuple):
    """What became of a record that was sent.

    `superseded` says that the record is now another process's, which has delivered it or is about to; `v1_gone` that
    the end of the API's first version was met.
    """

    record: Record
    answer: IncidentState | AlertState | IncidentIoError
    creation: PreparedCreate | None = None
    superseded: bool = False
    v1_gone: bool = False


def terms_of(record: Record) -> SubmitOptions:
    """Tell how a record that waits is to be sent."""
    of_dag = record.of_dag if record.on_dags_key else None
    key_after = (lambda incident_id: open_key(of_dag, after=incident_id)) if of_dag else None
    return SubmitOptions(record.api_version, with_notes, next_keys=record.next_keys, key_after=key_after)


def build_body(report: Report, conn_id: str) -> Generator[Effect, Any, PreparedCreate | None]:
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
        creation: PreparedCreate = end.value
        return creation


def mark_in_flight(record: Record) -> Record:
    """Return what is written down of a record just before its first byte leaves: from then on it may be delivered.

    Whoever finds it so, because its process was killed or is still waiting for the answer, never changes its version.
    """
    return record if record.body is None else record._replace(maybe_delivered=True)


def send(
    record: Record,
    terms: SubmitOptions,
    now: Callable[[], datetime],
    *,
    stored: Record | None,
    decided: bool = False,
    patience: float = SETTLE_SECONDS,
) -> Generator[Effect, Any, Sent]:
    """Send a record, and decide what becomes of it; writing that down is the caller's.

    :param stored: What the journal holds of it; None if nothing may be written there.
    :param decided: Whether a person has decided that what an earlier attempt may have opened is not there.
    :param patience: Seconds to wait for others before it changes to v2.
    """
    unsettled = record.maybe_delivered and not decided
    # A day before, for the two clocks may disagree about which day it was.
    since = f"{record.written_at - timedelta(days=1):%Y-%m-%d}"
    left = False
    steps = submit(record.draft, terms._replace(unsettled=unsettled, since=since), creation=record.creation)
    creation, gone = record.creation, False
    answer: Any = None
    try:
        call = next(steps)
        while True:
            if isinstance(call, PreparedCreate):
                gone |= creation is not None and creation.endpoint != call.endpoint
                if record.opened_at and call.endpoint != record.endpoint:
                    return _sent(record, (yield from _opened_before(record)), now(), creation, gone=gone)
                if gone and stored and (other := (yield from _taken_over(stored, patience))):
                    return Sent(other, _answer_of(other), superseded=True, v1_gone=True)
                record = yield from _write_before_send(record, call, stored)
                stored = stored and mark_in_flight(record)
                creation, left = call, True
                answer = yield from _answered(record, call, patience)
            else:
                answer = yield Ask(call, record.conn_id)
            call = steps.throw(answer) if isinstance(answer, IncidentIoError) else steps.send(answer)
    except StopIteration as end:
        answer = end.value
    except AmbiguousDeliveryError as error:
        gone, answer = True, error
        if stored and (other := (yield from _taken_over(stored, patience))):
            return Sent(other, _answer_of(other), superseded=True, v1_gone=True)
    except IncidentIoError as error:
        answer = error
    except Exception as error:  # noqa: BLE001 -- whatever a record or its answer breaks is that record's error
        answer = broken(error, left=left)
    return _sent(record, answer, now(), creation, gone=gone)


def _answered(record: Record, call: PreparedCreate, patience: float) -> Generator[Effect, Any, Any]:
    """Send a create; where its key is the DAG's and used, look for the incident that it has opened."""
    answer = yield Send(call.body, record.conn_id, call.endpoint, record.key)
    if record.on_dags_key and isinstance(answer, APIError) and answer.already_open:
        return (yield from _shared(record, patience))
    return answer


def _sent(record: Record, answer: Any, now: datetime, creation: PreparedCreate | None, *, gone: bool) -> Sent:
    return Sent(next_state(record, answer, now), answer, creation, v1_gone=gone)


def broken(error: Exception, *, left: bool) -> IncidentIoError:
    """Say that a record, or what it was answered, breaks whoever handles it; not how, for the text may hold a secret.

    :param left: Whether anything may have been answered; else it would break each time.
    """
    if left:
        return UnexpectedResponseError(200, f"the answer cannot be used ({type(error).__name__})")
    return IncidentIoError(f"the record cannot be sent ({type(error).__name__})")


def _write_before_send(
    record: Record, creation: PreparedCreate, stored: Record | None
) -> Generator[Effect, Any, Record]:
    """Write down what is about to be sent, unless that is what the journal holds."""
    moved = record if creation.endpoint == "alert" else record.asked_as(creation.body["idempotency_key"])
    pinned = moved._replace(
        body=dict(creation.body), endpoint=creation.endpoint, draft=moved.draft if creation.partial else None
    ).with_notes(dict.fromkeys((*moved.notes, *creation.notes)))
    if stored and mark_in_flight(pinned) != stored:
        yield Set(pinned.name, mark_in_flight(pinned).text())
    return pinned


def _taken_over(stored: Record, patience: float) -> Generator[Effect, Any, Record | None]:
    """Look whether another process, for which v1 is still there, has delivered a record or may have; None if not."""
    if patience:
        yield Sleep(patience)
    found = own_record(stored.name, (yield Get(stored.name)), stored.key)
    if found is None or found == stored:
        return None
    return found if found.state == "open" or (found.endpoint == "v1" and found.maybe_delivered) else None


_LONG_OVER = IncidentState(id="", status_category="merged", updated_at=datetime(1970, 1, 1, tzinfo=UTC))
"""Stands for what a used key has opened some time, where the answer does not tell what."""


def _shared(record: Record, patience: float) -> Generator[Effect, Any, IncidentState]:
    """Find the incident that another run of the DAG has opened just now, with the key that both share.

    It says so in the DAG's record. Otherwise the key was used before, and the run's own comes next.
    """
    if patience:
        yield Sleep(patience)
    name = record_name(record.dag_id, record.of_dag or "")
    found = own_record(name, (yield Get(name)), record.of_dag or "")
    return _LONG_OVER if found is None or found.already_closed or found.incident is None else _state_of(found.incident)


def note_of_dag(record: Record) -> Generator[Effect, Any, None]:
    """Note what a DAG has open, for its next run that fails, or recovers.

    It is looked at once more after it is written: another run that fails at the same moment may have written its own,
    and the incident stands for the later one.
    """
    if not record.of_dag or record.state != "open" or not record.incident or record.already_closed:
        return
    name = record_name(record.dag_id, record.of_dag)
    for _ in range(_LOOKS):
        found = own_record(name, (yield Get(name)), record.of_dag)
        if found is None or found.incident is None or found.incident.id != record.incident.id:
            has_link = record.without_run()._replace(key=record.of_dag)
        elif found.already_closed or found.is_later_than(record):
            return
        else:
            has_link = found.joined(record)
        yield Set(name, has_link.text())


def _answer_of(record: Record) -> IncidentState | IncidentIoError:
    """Say what another process was answered, or that it still waits for it."""
    if record.state != "open":
        return AmbiguousDeliveryError(
            "v1 of the API is no longer served, and another process may have used it a moment ago"
        )
    return ConflictError(409) if record.incident is None else _state_of(record.incident)


def _state_of(incident: OpenIncident) -> IncidentState:
    return IncidentState(
        id=incident.id,
        reference=incident.reference,
        name=incident.name,
        permalink=incident.permalink,
        visibility=incident.visibility,
    )


def _opened_before(record: Record) -> Generator[Effect, Any, IncidentState | IncidentIoError]:
    """Ask how an incident stands that the other version has opened: a create would open a second one."""
    shown = (yield Show(record.incident.id, record.conn_id)) if record.incident else None
    return shown if isinstance(shown, IncidentState) else ConflictError(409)


def own_record(name: str, found: Any, key: str) -> Record | None:
    """Read the record of this very failure; anything else under its name counts as nothing."""
    if not isinstance(found, str):
        return None
    try:
        record = read_record(name, found)
    except UnreadableRecordError:
        return None
    return record if record.key == key else None


def next_state(record: Record, answer: IncidentState | AlertState | IncidentIoError, now: datetime) -> Record:
    """Decide what becomes of a record once its request was answered."""
    if isinstance(answer, APIError) and answer.already_open:
        return record._replace(state="open", opened_at=now, body=None, draft=None, error=None, due_at=None)
    if isinstance(answer, AlertState):
        return record._replace(state="open", opened_at=now, body=None, error=None, due_at=None)
    if not isinstance(answer, IncidentIoError):
        incident = _open_incident(answer, record.body or {})
        return record._replace(
            state="open",
            opened_at=now,
            incident=incident,
            already_closed=answer.is_past and incident.began == "triage",
            body=None,
            draft=None,
            error=None,
            due_at=None,
        )
    wait = answer.retry_after if isinstance(answer, APIError) else None
    maybe_delivered = record.maybe_delivered or answer.maybe_delivered
    # A connection that cannot be used refuses nothing: somebody will fix it.
    comes_back = answer.retryable or answer.blames_connection
    # What has surely not arrived is made anew, with the names that could not be looked up.
    anew = record.draft is not None and comes_back and not maybe_delivered
    return record._replace(
        body=None if anew else record.body,
        notes=tuple(note for note in record.notes if not (anew and NOT_LOOKED_UP in note)),
        state="pending" if comes_back else "dead",
        attempts=record.attempts + 1,
        error=replace_surrogates(
            redact_secrets(f"{answer}. {answer.advice}" if isinstance(answer, AmbiguousDeliveryError) else str(answer))
        ),
        due_at=now + timedelta(seconds=wait) if wait else None,
        maybe_delivered=maybe_delivered,
    )


def _text_of(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return body.get("name"), body.get("summary")


def _open_incident(answer: IncidentState, body: Mapping[str, Any]) -> OpenIncident:
    """Keep of an incident what tells it later, and how it was opened: in triage, unless a status was asked for."""
    asked_for_status = "status" in body or "incident_status_id" in body
    said, wanted = (text_mark(name, summary) for name, summary in ((answer.name, answer.summary), _text_of(body)))
    return OpenIncident(
        id=replace_surrogates(answer.id),
        reference=answer.reference and replace_surrogates(answer.reference),
        name=answer.name and replace_surrogates(answer.name),
        permalink=answer.permalink and replace_surrogates(answer.permalink),
        began=replace_surrogates(answer.status_category or "live") if asked_for_status else "triage",
        was_assigned="incident_role_assignments" in body,
        text_mark=said if said == wanted or _is_of_another_callback(answer) else None,
        visibility=replace_surrogates(answer.visibility or body.get("visibility") or "") or None,
    )


def _is_of_another_callback(answer: IncidentState) -> bool:
    """Return whether an incident has the words of a callback that was a moment earlier, and nobody's since."""
    if not answer.created_at or not answer.updated_at or not is_written_here(answer.summary or ""):
        return False
    return answer.updated_at - answer.created_at <= UNTOUCHED
