"""Flush: deliver what waits in the journal, and keep it small. A generator; the driver does the I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_incident.core.timing import KEEP_FOR, SETTLE_SECONDS, STORM_WINDOW, SUPPRESS_FOR, YOUNG
from airflow_incident.delivery.effects import Complete, Delete, Get, ReadAll, Set, StoreFailed
from airflow_incident.delivery.joining import rejoin
from airflow_incident.delivery.outcome import FlushResult, RecordResult
from airflow_incident.delivery.record import KEEP_RECORDS, PREFIX, Record, UnreadableRecordError, read_record
from airflow_incident.delivery.recovery import close_record_later, remember
from airflow_incident.delivery.sending import next_state, note_of_dag, own_record, send, terms_of
from airflow_incident.delivery.storm import attach, complete, counted
from airflow_incident.errors import AmbiguousDeliveryError, IncidentIoError, JournalError, UnexpectedResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from datetime import datetime

    from airflow_incident.delivery.effects import Effect

    RateLimitKey = tuple[str, bool]

PATIENT_ATTEMPTS = 3
"""After so many failed attempts a record waits behind those with fewer."""
MOST_ODD = 10
"""So many answers in a row that nobody can read are an outage; fewer are these records' own trouble."""


def flush_all(
    now: Callable[[], datetime],
    *,
    prefix: str = PREFIX,
    also_dead: bool = False,
    goes_on: Callable[[], bool] = lambda: True,
) -> Generator[Effect, Any, FlushResult]:
    """Deliver what waits, oldest first; stop at a connection's outage, for its rest would meet it too.

    Whatever one record breaks is an error of that record, and the rest is delivered.

    :param prefix: Only records whose name begins with it.
    :param also_dead: Send what was refused before, too: its cause was fixed.
    :param goes_on: Says whether there is time for another record; each connection has one all the same. The rest waits.
    :raises JournalError: if the journal cannot be read or written.
    """
    records, unreadable = yield from read_all(prefix)
    states = {"pending", "dead"} if also_dead else {"pending"}
    waiting = sorted((r for r in records if r.state in states and not r.needs_closing), key=_order)
    current = {record.name: record for record in records}
    done: list[Record] = []
    outages = _Outages(
        {
            r.rate_limit_key: f"incident.io asked to wait until {r.due_at:%H:%M:%S} UTC"
            for r in waiting
            if not r.is_due(now())
        }
    )
    tried: set[RateLimitKey] = set()
    for listed in waiting:
        # Each connection has its turn, or one that hangs would use up the time of all others, each time anew.
        if listed.rate_limit_key in outages.met or (listed.rate_limit_key in tried and not goes_on()):
            continue
        # Others deliver and drop too while this goes on, and what they wrote is newer.
        record = own_record(listed.name, (yield Get(listed.name)), listed.key)
        current[listed.name] = record or listed
        if record is None or record.state not in states or not record.is_due(now()):
            continue
        if record.own_fields is not None:
            record = yield from _completed(record, current, outages, now())
            if record is None:
                continue
        tried.add(record.rate_limit_key)
        # What was refused may have been opened by an attempt before that one; nobody has looked.
        result, answer = yield from _deliver(record, now, decided=also_dead and record.state == "pending")
        done.append(result)
        current[result.name] = result
        if not isinstance(answer, AmbiguousDeliveryError):
            outages.note(record.rate_limit_key, answer if result.state == "pending" else None)
    settled = yield from _close_recovered(current, outages, now, goes_on)
    yield from remember(settled)
    yield from _complete_storms(current, outages, now())
    pruned = yield from _prune(list(current.values()), now())
    return FlushResult(
        opened=[r for r in done if r.is_delivered],
        pending=[r for r in current.values() if r.state == "pending"],
        dead=[r for r in current.values() if r.state == "dead"],
        unreadable=unreadable,
        pruned=pruned,
        stopped="; ".join(dict.fromkeys(outages.met.values())) or None,
        refused=[r for r in done if r.state == "dead"],
        settled=settled,
    )


def _deliver(
    record: Record, now: Callable[[], datetime], *, decided: bool
) -> Generator[Effect, Any, tuple[Record, Any]]:
    """Send a record, unless what its DAG has open takes it; return it as it is written down, and the answer if any.

    :raises JournalError: if the journal cannot be written.
    """
    record = yield from rejoin(record)
    if record.state == "grouped":
        return record, None
    patience = SETTLE_SECONDS if abs(now() - record.written_at) < YOUNG else 0.0
    sent = yield from send(record, terms_of(record), now, stored=record, decided=decided, patience=patience)
    written = yield Set(record.name, sent.record.text())
    if isinstance(written, StoreFailed):
        raise JournalError(f"the journal cannot be written: {written.why}")
    yield from note_of_dag(sent.record)
    return sent.record, sent.answer


def _completed(
    record: Record, current: dict[str, Record], outages: _Outages, now: datetime
) -> Generator[Effect, Any, Record | None]:
    """Add what a record's connection says, which could not be read when it was written; None if it is not to be sent.

    Where the connection names the deployment, the record moves to another key, unless that has one already.
    """
    completed: Record | IncidentIoError = yield Complete(record)
    if isinstance(completed, IncidentIoError):
        current[record.name] = next_state(record, completed, now)
        yield Set(record.name, current[record.name].text())
        outages.note(record.rate_limit_key, completed)
        return None
    if completed.key == record.key:
        return completed
    known = own_record(completed.name, (yield Get(completed.name)), completed.key)
    if known is None:
        yield Set(completed.name, completed.text())
    yield Delete(record.name)
    del current[record.name]
    return None if known else completed


class _Outages:
    """Which connections had an outage while a flush went on, and why."""

    def __init__(self, met: dict[RateLimitKey, str]) -> None:
        self.met = met
        self._odd: Counter[RateLimitKey] = Counter()

    def note(self, rate_limit_key: RateLimitKey, answer: Any) -> None:
        """Note what a record was answered; an error if it has to wait."""
        if not isinstance(answer, IncidentIoError):
            self._odd[rate_limit_key] = 0
            return
        self._odd[rate_limit_key] += 1
        if not isinstance(answer, UnexpectedResponseError) or self._odd[rate_limit_key] >= MOST_ODD:
            self.met[rate_limit_key] = str(answer)


def _close_recovered(
    current: dict[str, Record], outages: _Outages, now: Callable[[], datetime], goes_on: Callable[[], bool]
) -> Generator[Effect, Any, list[RecordResult]]:
    """Close the incidents of runs that recovered while incident.io did not answer.

    What an outage leaves open is not told, for it waits on as before; what one odd answer leaves open is.
    """
    done: list[RecordResult] = []
    for name, record in list(current.items()):
        left = record.closing
        if left is None or not record.needs_closing or record.rate_limit_key in outages.met:
            continue
        if not goes_on():
            break
        became = yield from close_record_later(record, left, now)
        waits = became is not None and became.kind == "kept"
        outages.note(record.rate_limit_key, became.error if became and waits else None)
        if became and (not waits or isinstance(became.error, UnexpectedResponseError)):
            done.append(became)
            if became.outcome in {"recovered", "already_closed"}:
                del current[name]
    return done


def _complete_storms(current: dict[str, Record], outages: _Outages, now: datetime) -> Generator[Effect, Any, None]:
    """Let the incident of each storm name all of its failures, and each failure lead to that incident."""
    for name, of_storm in list(current.items()):
        if of_storm.level != "storm" or of_storm.incident is None or of_storm.rate_limit_key in outages.met:
            continue
        members = [r for r in current.values() if r.storm == of_storm.key and r.state == "grouped"]
        whole = counted(of_storm, members)
        if _is_fresh(of_storm, now) or whole.member_count != of_storm.told:
            whole = yield from complete(whole)
        if whole != of_storm:
            current[name] = whole
            yield Set(name, whole.text())
        for member in members:
            linked = yield from attach(member._replace(incident=of_storm.incident), of_storm)
            if linked != member:
                current[member.name] = linked
                yield Set(member.name, linked.text())
            if linked.link:  # what has no answer now would have none for the next one either
                break


def _order(record: Record) -> tuple[int, datetime]:
    """Say whose turn it is: the oldest first, but what failed again and again must not hold up the rest."""
    return record.attempts // PATIENT_ATTEMPTS, record.written_at


def read_all(prefix: str = PREFIX) -> Generator[Effect, Any, tuple[list[Record], dict[str, str]]]:
    """Read every record under a prefix, and tell which names hold something else.

    :raises JournalError: if they cannot be listed or read.
    """
    texts = yield ReadAll(prefix)
    if isinstance(texts, StoreFailed):
        raise JournalError(f"the journal cannot be listed: {texts.why}")
    records: list[Record] = []
    unreadable: dict[str, str] = {}
    for name, text in texts.items():
        try:
            records.append(read_record(name, text))
        except UnreadableRecordError as error:
            unreadable[name] = str(error)
    return records, unreadable


def drop(names: Sequence[str]) -> Generator[Effect, Any, None]:
    """Delete what is under these names, whatever it is.

    :raises JournalError: if that cannot be done.
    """
    for name in names:
        if isinstance(done := (yield Delete(name)), StoreFailed):
            raise JournalError(f"the journal cannot be written: {done.why}")


def is_due(records: Sequence[Record], now: datetime) -> bool:
    """Return whether a flush would do anything about these records, which are all there are."""
    return bool(_outdated(records, now)) or any(_is_due(record, now) for record in records)


def _is_due(record: Record, now: datetime) -> bool:
    is_untold = record.link is not None or (record.level == "storm" and record.told != record.member_count)
    return record.may_be_sent(now) or record.needs_closing or (is_untold and _is_fresh(record, now))


def _is_fresh(record: Record, now: datetime) -> bool:
    """Return whether a storm may go on."""
    return abs(now - record.written_at) < 2 * STORM_WINDOW


def _prune(records: Sequence[Record], now: datetime) -> Generator[Effect, Any, int]:
    """Delete delivered records that are too old or too many."""
    outdated = _outdated(records, now)
    for record in outdated:
        yield Delete(record.name)
    return len(outdated)


def _outdated(records: Sequence[Record], now: datetime) -> list[Record]:
    delivered = sorted((r for r in records if r.is_delivered), key=lambda r: r.written_at, reverse=True)
    # A storm's record is the oldest of its storm, and those grouped under it lead nowhere without it. A young one
    # answers for its failure still, whoever asks: a callback that comes late, or the watcher.
    too_many = [r for r in delivered if r.level != "storm"][KEEP_RECORDS:]
    too_many = [r for r in too_many if now - r.written_at > SUPPRESS_FOR]
    outdated = {r.name: r for r in (*too_many, *(r for r in delivered if now - r.written_at > KEEP_FOR))}
    # The oldest first: whoever reads in the middle, or after a flush that was killed, takes the oldest that is left for
    # the moment since when the journal is whole.
    return sorted(outdated.values(), key=lambda record: record.written_at)
