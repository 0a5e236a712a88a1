"""Recovery: what becomes of the incidents of a run that succeeded. A generator, like a report.

What a deliberate step of the attempt that succeeded has opened is not touched, nor what another connection has.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from airflow_incident.airflow_bridge.stats import Told, told, trouble
from airflow_incident.api.calls import send_alert
from airflow_incident.api.closing import Resolution, Wish, resolution
from airflow_incident.core.key import ALERT_MARK, dag_key, earlier_keys, own_keys
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.delivery.effects import Ask, Delete, Get, Set, StoreFailed
from airflow_incident.delivery.record import Closing, record_name, whole
from airflow_incident.delivery.sending import broken, note_of_dag, own_record, send, terms_of
from airflow_incident.errors import IncidentIoError, JournalError, NotFoundError
from airflow_incident.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime

    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.text import Redact
    from airflow_incident.delivery.effects import Step
    from airflow_incident.delivery.record import Record
    from airflow_incident.delivery.reporter import Rules

Kind = Literal[
    "closed",
    "resolved",
    "over",
    "gone",
    "taken",
    "kept",
    "refused",
    "dropped",
    "forgotten",
    "gathered",
    "unknown",
    "elsewhere",
]
_FORGOTTEN: dict[str, Kind] = {"gathered": "gathered", "dead": "forgotten"}
_LEVELS = {"kept": logging.WARNING, "refused": logging.ERROR}
_OUTCOMES: dict[Kind, str] = {
    "closed": "recovered",
    "resolved": "recovered",
    "over": "over",
    "gone": "over",
    "dropped": "withdrawn",
    "forgotten": "withdrawn",
}


class Recovery(Frozen):
    """A run or a task that succeeded, and how to close what it has opened.

    `key_name` is the name of a deliberate incident, as in `report.Wish`. `alerts` says that what was opened are alerts.
    `all_the_same` is the title of the link to what callbacks of this very attempt have opened, for a failure that the
    run has got over; unset, only earlier attempts' incidents are closed.
    """

    success: Failure
    scope: Scope
    wish: Wish
    key_name: str | None = None
    alerts: bool = False
    all_the_same: str | None = None


class Settled(Frozen):
    """What became of one record; `unnoted` is why the incident has no link to the run.

    `all_the_same` says that it is of the very attempt that succeeded.
    """

    kind: Kind
    record: Record
    error: IncidentIoError | None = None
    noted: bool = False
    unnoted: IncidentIoError | None = None
    all_the_same: bool = False

    @property
    def outcome(self) -> str:
        """Which of `metrics.OUTCOMES` it is."""
        return _OUTCOMES.get(self.kind, "left_open")

    def told(self, redact: Redact) -> Told:
        """Say it in one line, without secrets."""
        record, incident = self.record, self.record.incident
        return told(
            self.outcome,
            self._level,
            self._words(),
            redact,
            dag_id=record.dag_id,
            run_id=record.run_id,
            task=record.task,
            key=record.sent_key,
            incident=incident and (incident.reference or incident.id),
            link=incident and incident.permalink,
            error=self.error and type(self.error).__name__,
            request_id=getattr(self.error, "request_id", None),
        )

    @property
    def _level(self) -> int:
        """How loudly to say it: what waits for a person is an error."""
        if self.error and self.error.blames_connection:
            return logging.ERROR
        return _LEVELS.get(self.kind, logging.INFO)

    def _words(self) -> str:
        record, incident = self.record, self.record.incident
        subject = f"DAG {record.dag_id}, run {record.run_id}"
        named = f"{incident.reference or incident.id} {incident.permalink or ''}".rstrip() if incident else record.thing
        why = f"{self.error} {self.error.advice}".rstrip() if self.error else "incident.io had an outage a moment ago"
        link = "it has a link to the run" if self.noted else "it has no link to the run"
        lost = f" ({self.unnoted} {self.unnoted.advice})" if self.unnoted else ""
        did = "succeeded all the same" if self.all_the_same else "recovered"
        words: dict[Kind, str] = {
            "closed": f"{named} is closed because {subject} {did}; {link}{lost}",
            "resolved": f"the alert of {subject}, which {did}, is resolved",
            "over": f"{named} of {subject}, which {did}, was closed before",
            "gone": f"{named} of {subject}, which {did}, no longer exists",
            "taken": f"{named} of {subject}, which {did}, stays open: a person has taken it; {link}{lost}",
            "kept": f"{named} of {subject}, which {did}, stays open for now: {why} The next flush tries again",
            "refused": f"{named} of {subject}, which {did}, stays open: {why}",
            "dropped": f"{subject} is dropped: the run {did} before incident.io could be told",
            "forgotten": f"{subject} is dropped: the run {did}, and incident.io had refused it: {record.error}",
            "gathered": f"{subject} {did}; {named}, which stands for several failures, stays as it is",
            "unknown": f"{subject} {did}; its incident is not known here, so close it by hand (key {record.sent_key})",
            "elsewhere": f"{named} of {subject}, which {did}, is left to connection {record.conn_id!r}",
        }
        return words[self.kind]


class Recovered(Frozen):
    """What a recovery did; `trouble` is what kept the journal from being read or written."""

    settled: tuple[Settled, ...] = ()
    trouble: str | None = None

    @property
    def error(self) -> IncidentIoError | None:
        """The first error that left an incident open."""
        return next((s.error for s in self.settled if s.error), None)

    def told(self, redact: Redact, success: Failure) -> list[Told]:
        """Say it, an outcome a line."""
        lines = [settled.told(redact) for settled in self.settled]
        if self.trouble and lines:
            lines.append(trouble(self.trouble, redact))
        elif self.trouble:
            words = f"the journal cannot be used: {self.trouble}"
            facts: dict[str, Any] = {"dag_id": success.dag_id, "run_id": success.run_id, "task": success.task_label}
            lines.append(told("left_open", logging.WARNING, words, redact, **facts))
        return lines


def recover(recovery: Recovery, rules: Rules) -> Generator[Step, Any, Recovered]:
    """Close what a run has opened, and forget what it has left waiting."""
    settled: list[Settled] = []
    of_dag: Record | None = None
    for key in _keys(recovery, rules.deployment):
        name = record_name(recovery.success.dag_id, key)
        found = yield Get(name)
        if isinstance(found, StoreFailed):
            return Recovered(tuple(settled), found.why)
        record = own_record(name, found, key)
        if record and record.is_dags:
            of_dag = record
        if record is None or not _concerns(record, recovery, of_dag):
            continue
        handled = _is_of_this_attempt(record, recovery.success)
        wish = recovery.wish
        if handled and recovery.all_the_same:
            wish = wish._replace(title=recovery.all_the_same)
        try:
            became = yield from settle(record, wish, rules.now, conn_id=rules.conn_id, may_send=rules.send)
        except _Unwritten as failed:
            return Recovered((*settled, *failed.settled), failed.why)
        if became:
            settled.append(became._replace(all_the_same=handled))
            # What has no answer now would have none for the next one either.
            rules = rules._replace(send=rules.send and became.kind != "kept")
    return Recovered(tuple(settled))


def _keys(recovery: Recovery, deployment: str) -> list[str]:
    success, scope, name = recovery.success, recovery.scope, recovery.key_name
    keys = earlier_keys(success, deployment=deployment, scope=scope, name=name)
    if recovery.all_the_same:
        keys += own_keys(success, deployment=deployment, scope=scope, name=name)
    if scope == "dag" and not recovery.alerts:
        keys.insert(0, dag_key(deployment, success.dag_id))
    return [ALERT_MARK + key for key in keys] if recovery.alerts else keys


def _concerns(record: Record, recovery: Recovery, of_dag: Record | None) -> bool:
    """Tell whether a record is this recovery's to settle: never what a later run, or a deliberate step, stands for."""
    success = recovery.success
    if record.is_dags:
        if record.over:
            return False
        if record.run_id != whole(success.run_id):
            return record.run_at is not None and success.run_at is not None and record.run_at <= success.run_at
        if record.clear_count != success.clear_count:
            return record.clear_count < success.clear_count
    elif record.of_dag and record.state == "open" and _is_same(record, of_dag):
        return False  # what a DAG has open may stand for other runs, too: the DAG's own record decides
    if _is_of_this_attempt(record, success):
        return recovery.all_the_same is not None and record.level != "operator"
    return True


def _is_same(record: Record, other: Record | None) -> bool:
    """Tell whether both are about one incident."""
    return bool(other and other.incident and record.incident and other.incident.id == record.incident.id)


def _is_of_this_attempt(record: Record, success: Failure) -> bool:
    return record.is_of(success.dag_id, success.run_id) and record.clear_count == success.clear_count


class _Unwritten(Exception):  # noqa: N818 -- no error: it leads out of a generator
    """The store took no more; what was settled before is told all the same."""

    def __init__(self, why: str, settled: Settled | None) -> None:
        super().__init__(why)
        self.why = why
        self.settled = (settled,) if settled else ()


def settle(
    record: Record, wish: Wish, now: Callable[[], datetime], *, conn_id: str, may_send: bool = True
) -> Generator[Step, Any, Settled | None]:
    """Settle one record whose run has recovered; None if that was done before.

    :param conn_id: The only connection whose incidents may be touched.
    :param may_send: Whether incident.io may be asked now.
    """
    try:
        return (yield from _settle(record, wish, now, conn_id=conn_id, may_send=may_send))
    except _Unwritten:
        raise
    except Exception as error:  # noqa: BLE001 -- whatever a record or its answer breaks is that record's error
        return (yield from _unsettled(record, wish, broken(error, left=True)))


def settle_later(record: Record, left: Closing, now: Callable[[], datetime]) -> Generator[Step, Any, Settled | None]:
    """Do what a recovery has left to do.

    :raises JournalError: if the journal cannot be written.
    """
    wish = Wish(left.title, left.url, always=left.always, status=left.status)
    try:
        return (yield from settle(record, wish, now, conn_id=record.conn_id))
    except _Unwritten as failed:
        raise JournalError(f"the journal cannot be written: {failed.why}") from None


def _settle(
    record: Record, wish: Wish, now: Callable[[], datetime], *, conn_id: str, may_send: bool
) -> Generator[Step, Any, Settled | None]:
    if aside := _aside(record, conn_id):
        return Settled(aside, record)
    unsent = record.state == "pending" and not record.maybe_delivered
    forgotten: Kind | None = "dropped" if unsent else _FORGOTTEN.get(record.state)
    if forgotten:
        return (yield from _forget(Settled(forgotten, record)))
    if not may_send or (record.state == "pending" and not record.is_due(now())):
        return None if record.is_settled(always=wish.always) else (yield from _keep(record, wish, None))
    if record.state == "open" or record.via == "alert":
        return (yield from _close(record, wish))
    # The same request with the same key is answered with the incident that an attempt may have opened.
    sent = yield from send(record, terms_of(record)._replace(next_keys=()), now, stored=record)
    yield Set(record.name, sent.record.text())
    yield from note_of_dag(sent.record)
    if sent.record.state == "pending":
        return (yield from _keep(sent.record, wish, sent.answer if isinstance(sent.answer, IncidentIoError) else None))
    return (yield from _settle(sent.record, wish, now, conn_id=conn_id, may_send=may_send))


def _aside(record: Record, conn_id: str) -> Kind | None:
    """Tell why a record is none of ours to settle."""
    if record.conn_id != conn_id:
        return "elsewhere"
    return "unknown" if record.state == "open" and record.incident is None and record.via != "alert" else None


def _close(record: Record, wish: Wish) -> Generator[Step, Any, Settled | None]:
    """Close an open record's incident, or leave it to the person who has it."""
    if record.via == "alert":
        return (yield from _resolve_alert(record, wish))
    if record.incident is None or record.is_settled(always=wish.always):
        return None
    opened = record.incident
    known = wish._replace(noted=record.recovered, began=opened.began, was_assigned=opened.was_assigned)
    answer = yield Ask(resolution(opened.id, known), record.conn_id)
    if isinstance(answer, NotFoundError):
        return (yield from _forget(Settled("gone", record)))
    if isinstance(answer, IncidentIoError):
        return (yield from _unsettled(record, wish, answer))
    return (yield from _closed(record, wish, answer))


def _resolve_alert(record: Record, wish: Wish) -> Generator[Step, Any, Settled]:
    """End an alert; what it has opened is closed, or not, by the account's own routes.

    One that may not have arrived is not sent again first: it might page somebody, for nothing.
    """
    key = record.key.removeprefix(ALERT_MARK)
    event = {"title": wish.title, "status": "resolved", "deduplication_key": key}
    answer = yield Ask(send_alert(event | ({"source_url": wish.url} if wish.url else {})), record.conn_id)
    if isinstance(answer, IncidentIoError):
        return (yield from _unsettled(record, wish, answer))
    return (yield from _forget(Settled("resolved", record)))


def _closed(record: Record, wish: Wish, became: Resolution) -> Generator[Step, Any, Settled]:
    """Write down what became of an incident."""
    if became.kind in {"closed", "over"}:
        kind: Kind = "closed" if became.kind == "closed" else "over"
        return (yield from _forget(Settled(kind, record, noted=became.noted, unnoted=became.unnoted)))
    if error := became.error or became.unnoted:
        return (yield from _unsettled(record.changed(recovered=became.noted), wish, error))
    left = record.changed(recovered=True, closing=None)
    return (yield from _written(left, Settled("taken", left, noted=became.noted)))


def _unsettled(record: Record, wish: Wish, error: IncidentIoError) -> Generator[Step, Any, Settled]:
    """Leave an incident open that could not be closed: until later, or until somebody fixes the cause."""
    if error.retryable or error.blames_connection:
        return (yield from _keep(record, wish, error))
    refused = record.changed(closing=_left(wish, whole(redact_secrets(str(error)))))
    return (yield from _written(refused, Settled("refused", refused, error)))


def _keep(record: Record, wish: Wish, error: IncidentIoError | None) -> Generator[Step, Any, Settled]:
    """Write down what is still to be done, for a flush or for the next success."""
    record = record.changed(closing=_left(wish))
    return (yield from _written(record, Settled("kept", record, error)))


def _left(wish: Wish, error: str | None = None) -> Closing:
    return Closing(title=wish.title, url=wish.url, always=wish.always, status=wish.status, error=error)


def _written(record: Record, settled: Settled) -> Generator[Step, Any, Settled]:
    answer = yield Set(record.name, record.text())
    if isinstance(answer, StoreFailed):
        raise _Unwritten(answer.why, settled)
    return settled


def _forget(settled: Settled) -> Generator[Step, Any, Settled]:
    record = settled.record
    if record.is_dags:  # the DAG's next incident comes after this one
        return (yield from _written(record.changed(over=True, closing=None), settled))
    answer = yield Delete(record.name)
    if isinstance(answer, StoreFailed):
        raise _Unwritten(answer.why, settled)
    return settled
