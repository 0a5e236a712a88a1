"""Report and flush: what is written, what is sent and in which order. Generators; the courier does the I/O.

Whatever comes twice, breaks off or races with another process is the same request with the same key again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.core.key import storm_key
from airflow_incident.delivery.journal import (
    KEEP_FOR,
    KEEP_RECORDS,
    PREFIX,
    ForeignRecordError,
    Ledger,
    OpenIncident,
    Opening,
    Record,
    read_record,
    record_name,
)
from airflow_incident.delivery.report import Outcome, storm_body
from airflow_incident.errors import APIError, IncidentIoError, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from airflow_incident.api.head import IncidentHead
    from airflow_incident.delivery.report import Report

STORM_WINDOW = timedelta(minutes=10)
STORM = "storm"
"""What stands for a DAG id in the record of a storm."""


class Get(NamedTuple):
    """Read what is under a name."""

    name: str


class Set(NamedTuple):
    """Write a text under a name."""

    name: str
    text: str


class Delete(NamedTuple):
    """Delete what is under a name."""

    name: str


class Names(NamedTuple):
    """List the names that begin with a prefix."""

    prefix: str


class Send(NamedTuple):
    """Ask incident.io for an incident, with a connection's key."""

    body: Mapping[str, Any]
    conn_id: str


class StoreFailed(NamedTuple):
    """What a step of the store answers when it could not be done."""

    why: str


Step = Get | Set | Delete | Names | Send


class Rules(NamedTuple):
    """How a report is to be handled.

    `send` false writes it down only. `storm_dag` and `storm_deployment` are how many incidents one DAG and the whole
    deployment may open within ten minutes; 0 is no limit. `now` tells the time of day.
    """

    now: Callable[[], datetime]
    deployment: str
    conn_id: str
    send: bool = True
    storm_dag: int = 3
    storm_deployment: int = 10


def deliver(report: Report, rules: Rules) -> Generator[Step, Any, Outcome]:
    """Write a report down, send it, and write down what became of it."""
    name = record_name(report.failure.dag_id, report.key)
    found = yield Get(name)
    trouble = found.why if isinstance(found, StoreFailed) else None
    before = _own_record(name, found, report.key)
    if before and before.answers_for(report.key, rules.now()):
        yield Set(name, before.changed(suppressed=before.suppressed + 1).text())
        return Outcome(kind="suppressed", report=report, incident=before.incident, storm=before.storm)
    if before and before.state == "pending":
        record = before
    else:
        record = _first_record(report, rules)
        if storm := (yield from _storm(report, rules)):
            return (yield from _gather(report, record, storm, rules))
    written = yield Set(name, record.text())
    trouble = trouble or (written.why if isinstance(written, StoreFailed) else None)
    if not rules.send and not isinstance(written, StoreFailed):
        return Outcome(kind="kept", report=report)
    answer = yield Send(record.body or {}, record.conn_id)
    record = after(record, answer, rules.now())
    rewritten = yield Set(name, record.text())
    kept = not isinstance(written, StoreFailed) or not isinstance(rewritten, StoreFailed)
    return Outcome.of(report, answer, kept=kept, trouble=trouble)


def _own_record(name: str, found: Any, key: str) -> Record | None:
    """Read the record of this very failure; anything else under its name counts as nothing."""
    if not isinstance(found, str):
        return None
    try:
        record = read_record(name, found)
    except ForeignRecordError:
        return None
    return record if record.key == key else None


def _first_record(report: Report, rules: Rules) -> Record:
    return Record(
        state="pending",
        key=report.key,
        dag_id=report.failure.dag_id,
        run_id=report.failure.run_id,
        conn_id=rules.conn_id,
        level=report.failure.level,
        failed_at=report.failure.failed_at,
        written_at=rules.now(),
        body=report.body,
    )


def after(record: Record, answer: IncidentHead | IncidentIoError, now: datetime) -> Record:
    """Decide what becomes of a record once its request was answered."""
    if isinstance(answer, APIError) and answer.already_open:
        return record.changed(state="open", opened_at=now, body=None, error=None, due_at=None)
    if not isinstance(answer, IncidentIoError):
        incident = OpenIncident(id=answer.id, reference=answer.reference, name=answer.name, permalink=answer.permalink)
        return record.changed(state="open", opened_at=now, incident=incident, body=None, error=None, due_at=None)
    wait = answer.retry_after if isinstance(answer, APIError) else None
    return record.changed(
        state="pending" if answer.retryable else "dead",
        attempts=record.attempts + 1,
        error=str(answer),
        due_at=now + timedelta(seconds=wait) if wait else None,
        maybe_delivered=record.maybe_delivered or answer.maybe_delivered,
    )


def _storm(report: Report, rules: Rules) -> Generator[Step, Any, str | None]:
    """Note an opening; tell the storm's key if there are too many."""
    if not rules.storm_dag and not rules.storm_deployment:
        return None
    now, name = rules.now(), Ledger.name(rules.deployment)
    text = yield Get(name)
    ledger = Ledger.read(text if isinstance(text, str) else None).since(now - STORM_WINDOW)
    counted = [o for o in ledger.openings if o.key != report.key]
    of_dag = sum(o.dag_id == report.failure.dag_id for o in counted)
    too_many = (rules.storm_dag and of_dag >= rules.storm_dag) or (
        rules.storm_deployment and len(counted) >= rules.storm_deployment
    )
    if too_many:
        key = ledger.storm_key or storm_key(rules.deployment, f"{now:%Y%m%dT%H%MZ}")
        yield Set(name, ledger.in_storm(key, now).model_dump_json())
        return key
    opening = Opening(now, report.failure.dag_id, report.key)
    most = 2 * max(rules.storm_dag, rules.storm_deployment)
    yield Set(name, ledger.with_opening(opening, most=most).model_dump_json())
    return None


def _gather(report: Report, record: Record, storm: str, rules: Rules) -> Generator[Step, Any, Outcome]:
    """Write a failure down under the storm's incident, and open that one if nobody has."""
    written = yield Set(record.name, record.changed(state="gathered", storm=storm, body=None).text())
    if isinstance(written, StoreFailed):
        answer = yield Send(record.body or {}, record.conn_id)
        return Outcome.of(report, answer, kept=False, trouble=written.why)
    name = record_name(STORM, storm)
    found = _own_record(name, (yield Get(name)), storm)
    if found is None:
        body = storm_body(report, storm, deployment=rules.deployment)
        pending = record.changed(key=storm, dag_id=STORM, run_id=storm, level="storm", body=body)
        written = yield Set(name, pending.text())
        if rules.send or isinstance(written, StoreFailed):
            answer = yield Send(body, rules.conn_id)
            found = after(pending, answer, rules.now())
            yield Set(name, found.text())
    return Outcome(kind="gathered", report=report, incident=found.incident if found else None, storm=storm)


class Flushed(NamedTuple):
    """What a flush found and did: records by what became of them, and names of records that it left alone."""

    opened: Sequence[Record] = ()
    pending: Sequence[Record] = ()
    dead: Sequence[Record] = ()
    foreign: Mapping[str, str] = {}
    pruned: int = 0
    stopped: str | None = None

    @property
    def oldest_pending(self) -> datetime | None:
        """When the oldest failure that still waits was written down."""
        return min((record.written_at for record in self.pending), default=None)


def flush(
    now: Callable[[], datetime], *, prefix: str = PREFIX, most: int | None = None, also_dead: bool = False
) -> Generator[Step, Any, Flushed]:
    """Deliver what waits, oldest first; stop at an outage, for the rest would meet it too.

    :param prefix: Only records whose name begins with it.
    :param most: Send at most this many.
    :param also_dead: Send what was refused before, too: its cause was mended.
    """
    records, foreign = yield from read_all(prefix)
    states = {"pending", "dead"} if also_dead else {"pending"}
    waiting = sorted((r for r in records if r.state in states), key=lambda record: record.written_at)
    done: list[Record] = []
    stopped: str | None = None
    for record in waiting if most is None else waiting[:most]:
        if record.due_at and record.due_at > now():
            stopped = f"incident.io asked to wait until {record.due_at:%H:%M:%S} UTC"
            break
        answer = yield Send(record.body or {}, record.conn_id)
        result = after(record, answer, now())
        written = yield Set(record.name, result.text())
        done.append(result)
        if isinstance(written, StoreFailed):
            stopped = f"the journal cannot be written: {written.why}"
            break
        if isinstance(answer, IncidentIoError) and answer.retryable:
            stopped = str(answer)
            break
    current = {r.name: r for r in records} | {r.name: r for r in done}
    pruned = yield from _prune(list(current.values()), now())
    return Flushed(
        opened=[r for r in done if r.state == "open"],
        pending=[r for r in current.values() if r.state == "pending"],
        dead=[r for r in current.values() if r.state == "dead"],
        foreign=foreign,
        pruned=pruned,
        stopped=stopped,
    )


def read_all(prefix: str = PREFIX) -> Generator[Step, Any, tuple[list[Record], dict[str, str]]]:
    """Read every record under a prefix, and tell which names hold something else.

    :raises JournalError: if they cannot be listed or read.
    """
    names = yield Names(prefix)
    if isinstance(names, StoreFailed):
        raise JournalError(f"the journal cannot be listed: {names.why}")
    records: list[Record] = []
    foreign: dict[str, str] = {}
    for name in names:
        text = yield Get(name)
        if isinstance(text, StoreFailed):
            raise JournalError(f"the journal cannot be read: {text.why}")
        if text is None:
            continue
        try:
            records.append(read_record(name, text))
        except ForeignRecordError as error:
            foreign[name] = str(error)
    return records, foreign


def drop(names: Sequence[str]) -> Generator[Step, Any, None]:
    """Delete what is under these names, whatever it is.

    :raises JournalError: if that cannot be done.
    """
    for name in names:
        if isinstance(done := (yield Delete(name)), StoreFailed):
            raise JournalError(f"the journal cannot be written: {done.why}")


def _prune(records: Sequence[Record], now: datetime) -> Generator[Step, Any, int]:
    """Delete delivered records that are too old or too many."""
    delivered = sorted(
        (r for r in records if r.state in {"open", "gathered"}), key=lambda r: r.written_at, reverse=True
    )
    old = [r for place, r in enumerate(delivered) if place >= KEEP_RECORDS or now - r.written_at > KEEP_FOR]
    for record in old:
        yield Delete(record.name)
    return len(old)
