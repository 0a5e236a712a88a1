"""Recovery: what becomes of the incidents of a run that succeeded. A generator, like a report.

What a deliberate step of the attempt that succeeded has opened is not touched, nor what another connection has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.api.calls import send_alert
from airflow_incident.api.closing import CloseOptions, CloseResult, close_sequence
from airflow_incident.core.key import ALERT_MARK, dag_key, deployment_of, earlier_keys, own_keys, scope_of
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.text import one_line
from airflow_incident.delivery.effects import Ask, Delete, Get, Set, StoreFailed
from airflow_incident.delivery.ledger import Earlier, Ledger
from airflow_incident.delivery.outcome import RecordResult, RecoveryResult
from airflow_incident.delivery.record import Closing, record_name, replace_surrogates
from airflow_incident.delivery.sending import broken, note_of_dag, own_record, send, terms_of
from airflow_incident.errors import IncidentIoError, JournalError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from datetime import datetime

    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.settings import Settings
    from airflow_incident.delivery.effects import Effect
    from airflow_incident.delivery.outcome import RecordKind
    from airflow_incident.delivery.record import Record
    from airflow_incident.delivery.report import DeliveryPolicy

_OVER = frozenset({"closed", "already_closed"})
_FORGOTTEN: dict[str, RecordKind] = {"grouped": "grouped", "dead": "discarded"}


class Recovery(NamedTuple):
    """A run or a task that succeeded, and how to close what it has opened.

    `key_name` is the name of a deliberate incident, as in `report.IncidentContent`. `alerts` says that what was opened
    are alerts. `all_the_same` is the title of the link to what callbacks of this very attempt have opened, for a
    failure that the run has got over; unset, only earlier attempts' incidents are closed.
    """

    success: Failure
    scope: Scope
    options: CloseOptions
    key_name: str | None = None
    alerts: bool = False
    all_the_same: str | None = None


def recovery_of(
    success: Failure, config: ConnectionConfig, *, note: str | None = None, key_name: str | None = None
) -> Recovery:
    """Decide what a success closes, and what it says.

    :param note: Title of the link that is attached. Default: what recovered.
    """
    success = config.with_pages(success)
    scope = scope_of(success, config.settings.scope)
    what = f"Task {success.dag_id}.{success.task_label}" if success.level == "task" else f"DAG {success.dag_id}"
    text = (note or "").strip() or f"{what} recovered in Airflow, run {success.run_id}"
    handled = f"{what} succeeded all the same, run {success.run_id}"
    return Recovery(
        success,
        scope,
        close_options(config.settings, title=one_line(config.redact(text)), url=success.run_url),
        key_name,
        alerts=config.settings.channel == "alert",
        # While a step runs nobody knows yet how its run will end.
        all_the_same=None if success.level == "operator" else one_line(config.redact(handled)),
    )


def close_options(settings: Settings, *, title: str, url: str | None = None) -> CloseOptions:
    """Say how incidents are closed."""
    return CloseOptions(title, url, always=settings.resolve == "always", status=settings.resolved_status)


def close_run(recovery: Recovery, policy: DeliveryPolicy) -> Generator[Effect, Any, RecoveryResult]:
    """Close what a run has opened, and forget what it has left waiting."""
    settled: list[RecordResult] = []
    of_dag: Record | None = None
    keys = _keys(recovery, policy)
    attempts = set(keys) - {dag_key(policy.deployment, recovery.success.dag_id, policy.conn_id)}
    for key in keys:
        name = record_name(recovery.success.dag_id, key)
        found = yield Get(name)
        if isinstance(found, StoreFailed):
            return RecoveryResult(tuple(settled), found.why)
        record = own_record(name, found, key)
        if record and record.is_dags:
            of_dag = record
        if record is None or not _concerns(record, recovery, of_dag):
            continue
        # What it joined, or stands for, is settled here itself.
        is_over = bool(of_dag and of_dag.already_closed and not record.is_dags and _is_same(record, of_dag))
        if is_over or (record.state == "grouped" and record.storm in attempts):
            yield Delete(name)
            continue
        handled = _is_of_this_attempt(record, recovery.success)
        options = recovery.options
        if handled and recovery.all_the_same:
            options = options._replace(title=recovery.all_the_same)
        try:
            became = yield from close_record(record, options, policy.now, conn_id=policy.conn_id, may_send=policy.send)
        except _NotWritten as failed:
            return RecoveryResult((*settled, *failed.settled), failed.why)
        if became:
            settled.append(became._replace(did=_did(record, recovery.success, handled=handled)))
            if record.is_dags and became.kind in _OVER:
                of_dag = record._replace(already_closed=True)
            # What has no answer now would have none for the next one either.
            policy = policy._replace(send=policy.send and became.kind != "kept")
    yield from remember(settled)
    return RecoveryResult(tuple(settled))


def _did(record: Record, success: Failure, *, handled: bool) -> str:
    """Say what a record's run has done since; what a DAG has open may be made good by another one."""
    if record.is_dags and not record.is_of(success.dag_id, success.run_id):
        return f"was followed by run {success.run_id}, which succeeded"
    return "succeeded all the same" if handled else "recovered"


def remember(settled: Sequence[RecordResult]) -> Generator[Effect, Any, None]:
    """Note the incidents whose records are forgotten now, for the texts of their DAGs' next ones."""
    forgotten = [s.record for s in settled if s.kind in _OVER and s.record.level != "operator"]
    ledgers: dict[str, Ledger] = {}
    for record in forgotten:
        name = Ledger.name(deployment_of(record.key), record.conn_id)
        if name not in ledgers:
            ledgers[name] = Ledger.read((yield Get(name)))
        if record.incident:
            entry = Earlier(record.dag_id, record.written_at, record.name)
            ledgers[name] = ledgers[name].with_earlier(entry.of(record.incident))
    for name, ledger in ledgers.items():
        yield Set(name, ledger.text())


def _keys(recovery: Recovery, policy: DeliveryPolicy) -> list[str]:
    success, scope, name, deployment = recovery.success, recovery.scope, recovery.key_name, policy.deployment
    keys = earlier_keys(success, deployment=deployment, scope=scope, name=name)
    if recovery.all_the_same:
        keys += own_keys(success, deployment=deployment, scope=scope, name=name)
    if scope == "dag" and not recovery.alerts:
        keys.insert(0, dag_key(deployment, success.dag_id, policy.conn_id))
    return [ALERT_MARK + key for key in keys] if recovery.alerts else keys


def _concerns(record: Record, recovery: Recovery, of_dag: Record | None) -> bool:
    """Return whether a record is this recovery's to close: never one of a later run or of a deliberate step."""
    success = recovery.success
    if record.is_dags:
        if record.already_closed:
            return False
        if record.run_id != replace_surrogates(success.run_id):
            return record.run_at is not None and success.run_at is not None and record.run_at <= success.run_at
        if record.clear_count != success.clear_count:
            return record.clear_count < success.clear_count
    elif record.of_dag and record.state == "open" and of_dag and _is_same(record, of_dag) and not of_dag.already_closed:
        return False  # what a DAG has open may stand for other runs, too: the DAG's own record decides
    if _is_of_this_attempt(record, success):
        return recovery.all_the_same is not None and record.level != "operator"
    return True


def _is_same(record: Record, other: Record | None) -> bool:
    """Return whether both are about one incident."""
    return bool(other and other.incident and record.incident and other.incident.id == record.incident.id)


def _is_of_this_attempt(record: Record, success: Failure) -> bool:
    return record.is_of(success.dag_id, success.run_id) and record.clear_count == success.clear_count


class _NotWritten(Exception):  # noqa: N818 -- no error: it leads out of a generator
    """The store took no more; what was settled before is told all the same."""

    def __init__(self, why: str, settled: RecordResult | None) -> None:
        super().__init__(why)
        self.why = why
        self.settled = (settled,) if settled else ()


def close_record(
    record: Record, options: CloseOptions, now: Callable[[], datetime], *, conn_id: str, may_send: bool = True
) -> Generator[Effect, Any, RecordResult | None]:
    """Settle one record whose run has recovered; None if that was done before.

    :param conn_id: The only connection whose incidents may be touched.
    :param may_send: Whether incident.io may be asked now.
    """
    try:
        return (yield from _close_record(record, options, now, conn_id=conn_id, may_send=may_send))
    except _NotWritten:
        raise
    except Exception as error:  # noqa: BLE001 -- whatever a record or its answer breaks is that record's error
        return (yield from _not_closed(record, options, broken(error, left=True)))


def close_each(
    closings: Sequence[tuple[Record, str]],
    ways: Mapping[str, CloseOptions],
    now: Callable[[], datetime],
    goes_on: Callable[[], bool] = lambda: True,
) -> Generator[Effect, Any, RecoveryResult]:
    """Settle these records, each with its own connection, unless somebody else has written one meanwhile.

    :param closings: Each with what its run, or its file, has done since.
    :param ways: How each connection closes incidents.
    :param goes_on: Says before each record whether there is time for it.
    """
    settled: list[RecordResult] = []
    may_send = True
    for listed, did in closings:
        if not goes_on():
            break
        record = own_record(listed.name, (yield Get(listed.name)), listed.key)
        if record != listed:
            continue
        options = ways[record.conn_id]._replace(title=one_line(f"{record.subject} {did}"))
        try:
            became = yield from close_record(record, options, now, conn_id=record.conn_id, may_send=may_send)
        except _NotWritten as failed:
            return RecoveryResult((*settled, *failed.settled), failed.why)
        if became:
            settled.append(became._replace(did=did, is_linkable=False))
            may_send = may_send and became.kind != "kept"  # what has no answer now is left to a flush
    yield from remember(settled)
    return RecoveryResult(tuple(settled))


def close_record_later(
    record: Record, left: Closing, now: Callable[[], datetime]
) -> Generator[Effect, Any, RecordResult | None]:
    """Do what a recovery has left to do.

    :raises JournalError: if the journal cannot be written.
    """
    options = CloseOptions(left.title, left.url, always=left.always, status=left.status)
    try:
        return (yield from close_record(record, options, now, conn_id=record.conn_id))
    except _NotWritten as failed:
        raise JournalError(f"the journal cannot be written: {failed.why}") from None


def _close_record(
    record: Record, options: CloseOptions, now: Callable[[], datetime], *, conn_id: str, may_send: bool
) -> Generator[Effect, Any, RecordResult | None]:
    if aside := _aside(record, conn_id):
        return RecordResult(aside, record)
    unsent = not record.is_delivered and not record.maybe_delivered
    forgotten = _FORGOTTEN.get(record.state) or ("dropped" if unsent else None)
    if forgotten:
        return (yield from _forget(RecordResult(forgotten, record)))
    if not may_send or (record.state == "pending" and not record.is_due(now())):
        return None if record.is_settled(always=options.always) else (yield from _keep(record, options, None))
    if record.state == "open" or record.endpoint == "alert":
        return (yield from _close(record, options))
    # The same request with the same key is answered with the incident that an attempt may have opened.
    sent = yield from send(record, terms_of(record)._replace(next_keys=()), now, stored=record)
    yield Set(record.name, sent.record.text())
    yield from note_of_dag(sent.record)
    if sent.record.state == "pending":
        return (
            yield from _keep(sent.record, options, sent.answer if isinstance(sent.answer, IncidentIoError) else None)
        )
    return (yield from _close_record(sent.record, options, now, conn_id=conn_id, may_send=may_send))


def _aside(record: Record, conn_id: str) -> RecordKind | None:
    """Tell why a record is none of ours to settle."""
    if record.conn_id != conn_id:
        return "other_connection"
    return "unknown" if record.state == "open" and record.incident is None and record.endpoint != "alert" else None


def _close(record: Record, options: CloseOptions) -> Generator[Effect, Any, RecordResult | None]:
    """Close an open record's incident, or leave it to the person who has it."""
    if record.endpoint == "alert":
        return (yield from _resolve_alert(record, options))
    if record.incident is None or record.is_settled(always=options.always):
        return None
    opened = record.incident
    known = options._replace(has_link=record.recovered, began=opened.began, was_assigned=opened.was_assigned)
    answer = yield Ask(close_sequence(opened.id, known), record.conn_id)
    if isinstance(answer, NotFoundError):
        return (yield from _forget(RecordResult("gone", record)))
    if isinstance(answer, IncidentIoError):
        return (yield from _not_closed(record, options, answer))
    return (yield from _closed(record, options, answer))


def _resolve_alert(record: Record, options: CloseOptions) -> Generator[Effect, Any, RecordResult]:
    """End an alert; what it has opened is closed, or not, by the account's own routes.

    One that may not have arrived is not sent again first: it might page somebody, for nothing.
    """
    key = record.key.removeprefix(ALERT_MARK)
    event = {"title": options.title, "status": "resolved", "deduplication_key": key}
    answer = yield Ask(send_alert(event | ({"source_url": options.url} if options.url else {})), record.conn_id)
    if isinstance(answer, IncidentIoError):
        return (yield from _not_closed(record, options, answer))
    return (yield from _forget(RecordResult("resolved", record)))


def _closed(record: Record, options: CloseOptions, became: CloseResult) -> Generator[Effect, Any, RecordResult]:
    """Write down what became of an incident."""
    if became.kind in {"closed", "already_closed"}:
        kind: RecordKind = "closed" if became.kind == "closed" else "already_closed"
        return (yield from _forget(RecordResult(kind, record, has_link=became.has_link, link_error=became.link_error)))
    if error := became.error or became.link_error:
        return (yield from _not_closed(record._replace(recovered=became.has_link), options, error))
    left = record._replace(recovered=True, closing=None)
    return (yield from _write(left, RecordResult("claimed", left, has_link=became.has_link)))


def _not_closed(record: Record, options: CloseOptions, error: IncidentIoError) -> Generator[Effect, Any, RecordResult]:
    """Leave an incident open that could not be closed: until later, or until somebody fixes the cause."""
    if error.retryable or error.blames_connection:
        return (yield from _keep(record, options, error))
    refused = record._replace(closing=_close_later(options, replace_surrogates(redact_secrets(str(error)))))
    return (yield from _write(refused, RecordResult("refused", refused, error)))


def _keep(record: Record, options: CloseOptions, error: IncidentIoError | None) -> Generator[Effect, Any, RecordResult]:
    """Write down what is still to be done, for a flush or for the next success."""
    record = record._replace(closing=_close_later(options))
    return (yield from _write(record, RecordResult("kept", record, error)))


def _close_later(options: CloseOptions, error: str | None = None) -> Closing:
    return Closing(title=options.title, url=options.url, always=options.always, status=options.status, error=error)


def _write(record: Record, settled: RecordResult) -> Generator[Effect, Any, RecordResult]:
    answer = yield Set(record.name, record.text())
    if isinstance(answer, StoreFailed):
        raise _NotWritten(answer.why, settled)
    return settled


def _forget(settled: RecordResult) -> Generator[Effect, Any, RecordResult]:
    record = settled.record
    if record.is_dags:  # the DAG's next incident comes after this one
        return (yield from _write(record._replace(already_closed=True, closing=None), settled))
    answer = yield Delete(record.name)
    if isinstance(answer, StoreFailed):
        raise _NotWritten(answer.why, settled)
    return settled
