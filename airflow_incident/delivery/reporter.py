"""Report: what is written, what is sent and in which order. A generator; the driver does the I/O.

Whatever comes twice, breaks off or races with another process is the same request with the same key again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_incident.api.calls import CallSequence
from airflow_incident.api.incident import IncidentState
from airflow_incident.api.submit import LOOK_UP_SHARE, at_once, was_past
from airflow_incident.constants import NEVER_WEAKER
from airflow_incident.core.key import dag_key
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.text_edits import with_earlier
from airflow_incident.core.timing import STORM_WINDOW
from airflow_incident.delivery.effects import Ask, Get, Keep, Set, Show, StoreFailed
from airflow_incident.delivery.joining import join_earlier_attempt, join_incident_of_dag, rejoin, tell_late
from airflow_incident.delivery.ledger import Ledger
from airflow_incident.delivery.outcome import ReportResult
from airflow_incident.delivery.record import STORM, Record, record_name, replace_surrogates
from airflow_incident.delivery.sending import Sent, build_body, mark_in_flight, note_of_dag, own_record, send, terms_of
from airflow_incident.delivery.storm import (
    grouped_under,
    is_being_opened,
    is_of_kind,
    like_of,
    note_opening,
    stands_apart,
    storm_draft,
    tell_of,
)
from airflow_incident.errors import AmbiguousDeliveryError, IncidentIoError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from datetime import datetime

    from airflow_incident.api.calls import PreparedCreate
    from airflow_incident.delivery.effects import Effect
    from airflow_incident.delivery.outcome import Before, ReportKind
    from airflow_incident.delivery.report import DeliveryPolicy, Report


def keep(report: Report, policy: DeliveryPolicy) -> Generator[Effect, Any, ReportResult]:
    """Write a report down and nothing else, for there is no time left to look what stands there, or to send.

    What stood there may have been delivered.
    """
    creation = None if _is_to_complete(report, policy) else at_once(report.draft, report.terms)
    record = _first_record(report, creation, policy)._replace(maybe_delivered=True)
    written = yield Keep(record.name, record.text())
    if isinstance(written, StoreFailed):
        return ReportResult(kind="failed", report=report, journal_error=written.why, error=policy.unusable)
    return ReportResult(kind="kept", report=report, error=policy.unusable)


def deliver(report: Report, policy: DeliveryPolicy) -> Generator[Effect, Any, ReportResult]:
    """Write a report down, send it, and write down what became of it."""
    name = record_name(report.failure.dag_id, report.key)
    found = yield Get(name)
    journal_error = found.why if isinstance(found, StoreFailed) else None
    before = own_record(name, found, report.key)
    if isinstance(found, str) and before is None:
        # Of another version, or somebody else's: left alone, and the failure is sent all the same.
        return (yield from _send_unwritten(report, policy, f"{name} holds something else and is left alone"))
    if before and not before.applies_to(strict=report.strict):
        before = None
    began = report.failure.started_at
    if began and before and before.is_delivered and before.is_of_earlier_start(began):
        made_again = yield from _made_again(report, began, before, policy)
        if isinstance(made_again, ReportResult):
            return made_again
        report, before = made_again
    elif before and before.conn_id != policy.conn_id:
        if answered := (yield from _left_to_another(report, before)):
            return answered
    elif before and (answered := (yield from _answered(report, before, policy))):
        return answered
    if before and before.conn_id != policy.conn_id:
        before = None  # what was sent there is not sent here
    try:
        outcome = yield from _write_and_send(report, before, policy)
    except IncidentIoError as error:  # a strict report that cannot be sent as it is
        outcome = ReportResult.of(report, error, kept=False)
    return outcome._replace(journal_error=outcome.journal_error or journal_error)


def _write_and_send(
    report: Report, before: Record | None, policy: DeliveryPolicy
) -> Generator[Effect, Any, ReportResult]:
    ledger = yield from _read_ledger(policy)
    report = _for_this_api(report, v1_gone=ledger.tells_v1_is_gone(policy.now()))
    if before and before.own_fields is not None:
        report, policy = _no_weaker(report, before, policy)
    if not before:
        report, ledger = yield from _with_history(report, ledger, policy)
    creation = None if _is_to_complete(report, policy) else (yield from build_body(report, policy.conn_id))
    if before and before.state != "grouped":
        record = _again(before, report, creation, policy)
        if policy.send and before.state == "pending" and (joined := (yield from rejoin(record))).state == "grouped":
            return ReportResult("joined", report, joined.incident, storm=joined.storm, before="waited")
        report = report.asked_as(record.sent_key, record.next_keys)
        return (yield from _send_record(report, record, before, ledger, policy))
    taken = yield from _taken(report, creation, ledger, policy)
    if isinstance(taken, ReportResult):
        return taken
    return (yield from _send_record(*taken, before, ledger, policy))


def _taken(
    report: Report, creation: PreparedCreate | None, ledger: Ledger, policy: DeliveryPolicy
) -> Generator[Effect, Any, ReportResult | tuple[Report, Record]]:
    """Let an incident take the failure that is open, or a storm's; else return the record of one of its own."""
    record = _first_record(report, creation, policy)
    join = join_incident_of_dag if record.of_dag else join_earlier_attempt
    joined = yield from join(report, record, policy)
    if isinstance(joined, ReportResult):
        return joined
    if isinstance(joined, Record):  # it stands apart from what the DAG has open: its own run's may take it
        record, joined = joined, (yield from join_earlier_attempt(report, joined, policy))
        if isinstance(joined, ReportResult):
            return joined
    # Alerts are grouped by incident.io's own routes, and what a step opens on purpose, another step may close.
    is_groupable = not report.is_alert and report.failure.level != "operator"
    if is_groupable and (storm := (yield from note_opening(report, record, ledger, policy))):
        grouped = yield from _group(report, record, storm, ledger, policy)
        if grouped:
            return grouped
    if joined:
        before_it = report.failure.failed_at or policy.now()
        report = report.asked_as(joined, ((report.sent_key, before_it), *report.next_keys))
        record = _first_record(report, creation and creation.with_key(joined), policy)._replace(on_dags_key=True)
    return report, record


def _no_weaker(report: Report, before: Record, policy: DeliveryPolicy) -> tuple[Report, DeliveryPolicy]:
    """Let a callback whose words take the place of an earlier one's, which waits, keep what that one must not lose."""
    kept = {name: value for name, value in NEVER_WEAKER.items() if (before.draft or {}).get(name) == value}
    if not kept or report.is_alert:
        return report, policy
    own = policy.own_fields
    own = None if own is None else (*own, *(name for name in kept if name not in own))
    return replace(report, draft={**report.draft, **kept}), policy._replace(own_fields=own)


def _send_record(
    report: Report, record: Record, before: Record | None, ledger: Ledger, policy: DeliveryPolicy
) -> Generator[Effect, Any, ReportResult]:
    may_send = policy.send and record.is_due(policy.now())
    stored = mark_in_flight(record) if may_send else record
    written = yield Set(record.name, stored.text())
    if not may_send and not isinstance(written, StoreFailed):
        yield from _note_waiting(record, policy)
        return ReportResult(kind="kept", report=report, before=_state_before(before), error=policy.unusable)
    # What is written down keeps the version it was to be sent through.
    choice = record.api_version if record.body is not None else report.choice
    terms = report.terms._replace(choice=choice, key_after=terms_of(record).key_after, v1_gone=policy.v1_gone)
    in_journal = None if isinstance(written, StoreFailed) else stored
    sent = yield from send(record, terms, policy.now, stored=in_journal)
    report = report if report.is_alert else report.asked_as(sent.record.sent_key)
    if sent.v1_gone and not isinstance(sent.answer, NotFoundError):  # else all of it is gone, not v1 alone
        yield from _note_v1_gone(policy)
    if sent.superseded:
        return _superseded(report, sent)
    if isinstance(sent.answer, AmbiguousDeliveryError) and before and before.maybe_delivered:
        # It is the other process's attempt that is in doubt: if that lives, it knows more than can be written here.
        yield from _note_waiting(record, policy)
        return ReportResult.of(report, sent.answer, kept=True)
    if sent.record.already_closed and (other := (yield from _asked_otherwise(sent.record))):
        return ReportResult(kind="suppressed", report=report.asked_as(other.sent_key), incident=other.incident)
    rewritten = yield Set(record.name, sent.record.text())
    if isinstance(written, StoreFailed) and isinstance(rewritten, StoreFailed) and sent.record.state == "pending":
        rewritten = yield Keep(sent.record.name, sent.record.text())
    failures = [failed.why for failed in (written, rewritten) if isinstance(failed, StoreFailed)]
    journal_error, kept = next(iter(failures), None), len(failures) < 2  # noqa: PLR2004 -- neither was written
    caught_up = yield from _afterwards(report, sent, ledger, policy)
    outcome = ReportResult.of(report, sent.answer, kept=kept, journal_error=journal_error, creation=sent.creation)
    return outcome._replace(before=_state_before(before), caught_up=caught_up)


def _with_history(
    report: Report, ledger: Ledger, policy: DeliveryPolicy
) -> Generator[Effect, Any, tuple[Report, Ledger]]:
    """Let the text tell the DAG's earlier incidents, at the price of one read; their pages are kept in the ledger."""
    own, summary = record_name(report.failure.dag_id, report.key), report.draft.get("summary")
    known = ledger.earlier_of(replace_surrogates(report.failure.dag_id), policy.now())
    if not known or not summary or ledger.storm_key or report.failure.level == "operator" or known[0].record == own:
        return report, ledger
    if not known[0].page and isinstance(text := (yield Get(known[0].record)), str):
        known[0] = known[0].seen(text)
        ledger = ledger.with_earlier(known[0])
    is_private = report.draft.get("visibility") == "private"
    incidents = [(entry.label, entry.page, entry.at) for entry in known if entry.may_be_named(private=is_private)]
    return replace(report, draft={**report.draft, "summary": with_earlier(summary, incidents)}), ledger


def _made_again(
    report: Report, began: datetime, before: Record, policy: DeliveryPolicy
) -> Generator[Effect, Any, ReportResult | tuple[Report, Record | None]]:
    """Decide about a failure whose record is of a run that was deleted since, and made again.

    As long as that run's incident is open it stands for this one as well. If it was over before this run began, the
    failure is a new one, with a key of its own. Who reports it later, and does not know when the run began, finds the
    record, and in it the key.
    """
    if before.state == "grouped" or before.incident is None:
        return report, before  # asked for as ever: incident.io, or the incident that grouped it, decides
    may_ask = policy.send and before.conn_id == policy.conn_id
    shown = (yield Show(before.incident.id, before.conn_id)) if may_ask else None
    if isinstance(shown, NotFoundError):
        return _with_new_key(report), None
    if not isinstance(shown, IncidentState):
        # Nobody can tell now; what its key is answered will.
        return report.asked_as(before.sent_key, _left(report.next_keys, before)), None
    plan = CallSequence(lambda _: was_past(shown, before=began), LOOK_UP_SHARE)
    if shown.is_past and (yield Ask(plan, before.conn_id)) is True:
        return _with_new_key(report), None
    now = policy.now()
    joined = before._replace(
        started_at=began, opened_at=now, already_closed=shown.is_past, suppressed=before.suppressed + 1
    )
    written = yield Set(joined.name, joined.text())
    kind: ReportKind = "closed" if shown.is_past else "suppressed"
    journal_error = written.why if isinstance(written, StoreFailed) else None
    return ReportResult(kind=kind, report=report.asked_as(joined.sent_key), incident=shown, journal_error=journal_error)


def _with_new_key(report: Report) -> Report:
    (key, _), *others = report.next_keys
    return report.asked_as(key, tuple(others))


def _left(next_keys: Sequence[tuple[str, datetime]], before: Record) -> Sequence[tuple[str, datetime]]:
    """Return the keys to go on with from a record's own one."""
    left = tuple(entry for entry in next_keys or before.next_keys if entry[0] != before.sent_key)
    # What the DAG's runs share may turn out to be over before this one failed, as long as it was never answered.
    return (before.next_keys[0], *left) if before.on_dags_key and not before.opened_at else left


def _asked_otherwise(record: Record) -> Generator[Effect, Any, Record | None]:
    """Look for what another process has made of a failure that was answered with an incident that is over.

    It may know when the run began, and so that this is a new failure, with another key.
    """
    found = own_record(record.name, (yield Get(record.name)), record.key)
    return found if found and found.sent_key != record.sent_key and found.state in {"pending", "open"} else None


def _state_before(before: Record | None) -> Before | None:
    """Say how a failure stood that is reported again; one that was grouped has no incident of its own."""
    if before is None or before.state == "grouped":
        return None
    return "opened" if before.opened_at else "refused" if before.state == "dead" else "waited"


def _for_this_api(report: Report, *, v1_gone: bool) -> Report:
    """Begin with v2 where v1 is known to be gone."""
    return replace(report, choice="v2") if v1_gone and report.choice == "auto" else report


def _send_unwritten(report: Report, policy: DeliveryPolicy, journal_error: str) -> Generator[Effect, Any, ReportResult]:
    """Send a report that cannot be written down."""
    report = _for_this_api(report, v1_gone=policy.v1_gone)
    record = _first_record(report, at_once(report.draft, report.terms), policy)
    sent = yield from send(record, report.terms, policy.now, stored=None)
    return ReportResult.of(report, sent.answer, kept=False, journal_error=journal_error, creation=sent.creation)


def _is_to_complete(report: Report, policy: DeliveryPolicy) -> bool:
    """Return whether what is wanted is known only once the connection can be read; an alert has no such options."""
    return policy.own_fields is not None and not report.is_alert


def _again(before: Record, report: Report, creation: PreparedCreate | None, policy: DeliveryPolicy) -> Record:
    """Ask again for what was asked for before: with the same body if there was one.

    What one version has opened is no business of the other's: its record keeps its version.
    """
    began = report.failure.started_at or before.started_at
    before = before._replace(state="pending", started_at=began, next_keys=tuple(_left(report.next_keys, before)))
    if before.own_fields is not None:  # never sent, and now there may be more to say
        return before._replace(**_content_fields(report, creation, policy))
    if before.body is not None or before.draft is not None:
        return before
    other = before.opened_at and creation and creation.endpoint != before.endpoint
    wanted = report if report.is_alert else report.asked_as(before.sent_key)
    if creation and not other and not report.is_alert:
        creation = creation.with_key(before.sent_key)
    return before._replace(**_content_fields(wanted, None if other else creation, policy))


def _left_to_another(report: Report, record: Record) -> Generator[Effect, Any, ReportResult | None]:
    """Leave a failure to the connection that it was reported through first, unless that one refused or is not there.

    Its words and its incident may be for other eyes than those of this connection's account.
    """
    if record.state == "dead" or (record.own_fields is not None and not record.maybe_delivered):
        return None
    if record.state == "pending":
        why = IncidentIoError(f"it waits for connection {record.conn_id!r}, through which it was reported first")
        return ReportResult(kind="kept", report=report, error=why, before="waited")
    yield Set(record.name, record._replace(suppressed=record.suppressed + 1).text())
    return ReportResult("suppressed", report, record.incident, storm=record.storm, elsewhere=record.conn_id)


def _answered(report: Report, record: Record, policy: DeliveryPolicy) -> Generator[Effect, Any, ReportResult | None]:
    """Answer a report from its record, where that is fresh: it is open, or it was refused a moment ago."""
    if record.was_refused_for(report.key, policy.now()):
        yield Set(record.name, record._replace(suppressed=record.suppressed + 1).text())
        error = IncidentIoError(record.error or "it was refused")
        return ReportResult(kind="refused", report=report, error=error, before="refused")
    if not record.is_fresh_for(report.key, policy.now()):
        return None
    if policy.send and not record.attached_late:
        record = yield from tell_late(report, record)
    yield Set(record.name, record._replace(suppressed=record.suppressed + 1).text())
    return ReportResult(kind="suppressed", report=report, incident=record.incident, storm=record.storm)


def _afterwards(
    report: Report, sent: Sent, ledger: Ledger, policy: DeliveryPolicy
) -> Generator[Effect, Any, Sequence[Record]]:
    """Note what others should know of a report that was just answered; tell what was delivered with it."""
    record = sent.record
    if record.state == "pending":
        yield from _note_waiting(record, policy)
    elif record.incident:
        yield from note_of_dag(record)
        return (yield from _catch_up(report, ledger, policy))
    return ()


def _note_v1_gone(policy: DeliveryPolicy) -> Generator[Effect, Any, None]:
    """Spare the others the search."""
    ledger = yield from _read_ledger(policy)
    if not ledger.v1_gone_at:
        yield Set(Ledger.name(policy.deployment, policy.conn_id), ledger._replace(v1_gone_at=policy.now()).text())


def _superseded(report: Report, sent: Sent) -> ReportResult:
    """Tell of a report whose record is another process's by now."""
    if isinstance(sent.answer, AmbiguousDeliveryError):
        return ReportResult.of(report, sent.answer, kept=True)
    return ReportResult(kind="suppressed", report=report, incident=sent.record.incident)


def _first_record(report: Report, creation: PreparedCreate | None, policy: DeliveryPolicy) -> Record:
    # About what its DAG has open, for whichever of its runs.
    is_of_dag = report.scope == "dag" and not report.is_alert
    of_dag = dag_key(policy.deployment, report.failure.dag_id, policy.conn_id) if is_of_dag else None
    return Record(
        state="pending",
        key=report.key,
        dag_id=replace_surrogates(report.failure.dag_id),
        run_id=replace_surrogates(report.failure.run_id),
        conn_id=policy.conn_id,
        level=report.failure.level,
        task=replace_surrogates(report.failure.task_label) if report.failure.task_label else None,
        failed_at=report.failure.failed_at,
        clear_count=report.failure.clear_count,
        scope=report.scope,
        run_at=report.failure.run_at,
        written_at=policy.now(),
        api_version=report.choice,
        started_at=report.failure.started_at,
        asked_key=None if report.sent_key == report.key else report.sent_key,
        next_keys=tuple(report.next_keys),
        of_dag=of_dag,
        error=replace_surrogates(redact_secrets(f"{policy.unusable}. {policy.unusable.advice}"))
        if policy.unusable
        else None,
        **_content_fields(report, creation, policy),
    ).with_notes((*report.notes, *(creation.notes if creation else ())))


def _content_fields(report: Report, creation: PreparedCreate | None, policy: DeliveryPolicy) -> dict[str, Any]:
    """Say what is to be sent, or what it is to be made of."""
    like = like_of(report.draft) or None
    if creation is None:
        own = policy.own_fields if _is_to_complete(report, policy) else None
        return {"draft": dict(report.draft), "body": None, "own_fields": own, "like": like}
    return {"draft": None, "body": dict(creation.body), "endpoint": creation.endpoint, "own_fields": None, "like": like}


def _read_ledger(policy: DeliveryPolicy) -> Generator[Effect, Any, Ledger]:
    text = yield Get(Ledger.name(policy.deployment, policy.conn_id))
    return Ledger.read(text if isinstance(text, str) else None).around(policy.now(), STORM_WINDOW)


def _note_waiting(record: Record, policy: DeliveryPolicy) -> Generator[Effect, Any, None]:
    """Let a later report of the DAG find what waits."""
    ledger = yield from _read_ledger(policy)
    yield Set(Ledger.name(policy.deployment, policy.conn_id), ledger.with_waiting(record.dag_id, record.key).text())


def _catch_up(report: Report, ledger: Ledger, policy: DeliveryPolicy) -> Generator[Effect, Any, Sequence[Record]]:
    """Deliver what waits of this DAG, now that incident.io answers, as long as there is time to spare."""
    dag_id = replace_surrogates(report.failure.dag_id)
    settled: list[str] = []
    answered: list[Record] = []
    for key in [key for dag, key in ledger.waiting if dag == dag_id and key != report.key]:
        if not policy.has_time():
            break
        name = record_name(dag_id, key)
        record = own_record(name, (yield Get(name)), key)
        is_ours = record and record.conn_id == policy.conn_id and record.own_fields is None
        if record and is_ours and record.may_be_sent(policy.now()):
            record = yield from rejoin(record)
            if record.state == "grouped":
                answered.append(record)
        if record and is_ours and record.may_be_sent(policy.now()):
            sent = yield from send(record, terms_of(record), policy.now, stored=record)
            record = sent.record
            yield Set(name, record.text())
            yield from note_of_dag(record)
            if record.state == "pending" and not isinstance(sent.answer, AmbiguousDeliveryError):
                break
            if record.state != "pending" and not sent.superseded:
                answered.append(record)
        if not record or record.state != "pending":
            settled.append(key)
    if settled:
        newest = yield from _read_ledger(policy)
        yield Set(Ledger.name(policy.deployment, policy.conn_id), newest.without_waiting(settled).text())
    return answered


def _group(
    report: Report, record: Record, storm: str, ledger: Ledger, policy: DeliveryPolicy
) -> Generator[Effect, Any, ReportResult | None]:
    """Write a failure down under the storm's incident, and open that one if it waits; None if it stands apart.

    The storm's record comes first: whoever breaks off in between leaves no failure under an incident that nobody
    will open.
    """
    name = record_name(STORM, storm)
    found = own_record(name, (yield Get(name)), storm)
    if not found and ledger.storm_key and not is_of_kind(report, storm, policy):
        return None  # another process is about to open it, for failures unlike this one
    if found and (yield from stands_apart(report, record, found, policy)):
        return None
    of_storm = found or _storm_record(report, record, storm, policy)
    written = own_record(record.name, (yield Get(record.name)), record.key)
    if written is None or written.storm != storm:  # else another callback of the same failure has counted it just now
        of_storm = of_storm.with_member(record.dag_id)
    is_others = bool(found and is_being_opened(found, policy.now()))
    may_open = policy.send and not is_others and (not found or _may_be_opened(found, policy))
    stored = mark_in_flight(of_storm) if may_open else of_storm
    if not is_others:  # what another process is sending is its own to write
        yield Set(name, stored.text())
    grouped = grouped_under(of_storm, report, record)
    if isinstance(written := (yield Set(record.name, grouped.text())), StoreFailed):
        return (yield from _send_unwritten(report, policy, written.why))
    opened: Sequence[Record] = ()
    if may_open:
        sent = yield from _open_storm(of_storm, stored, policy)
        of_storm = sent.record
        if not found and of_storm.state != "open":
            return ReportResult.of(report, sent.answer, kept=True)
        opened = (of_storm,) if found and of_storm.state != "pending" and not sent.superseded else ()
    if policy.send and of_storm.incident:
        yield from tell_of(grouped, of_storm)
    before = _state_before(found)
    return ReportResult("grouped", report, of_storm.incident, storm=storm, before=before, caught_up=opened)


def _may_be_opened(of_storm: Record, policy: DeliveryPolicy) -> bool:
    """Return whether a storm waits for its incident still; what its connection has to add, only a flush can."""
    return of_storm.own_fields is None and of_storm.may_be_sent(policy.now())


def _open_storm(of_storm: Record, stored: Record, policy: DeliveryPolicy) -> Generator[Effect, Any, Sent]:
    """Ask for a storm's incident, whose text knows of one failure, and write down what became of it."""
    sent = yield from send(of_storm, terms_of(of_storm), policy.now, stored=stored)
    if sent.v1_gone:
        yield from _note_v1_gone(policy)
    if not sent.superseded:
        sent = sent._replace(record=sent.record._replace(told=1))
        yield Set(of_storm.name, sent.record.text())
    return sent


def _storm_record(report: Report, record: Record, storm: str, policy: DeliveryPolicy) -> Record:
    draft = storm_draft(report, storm, policy.deployment)
    of_storm = replace(report, draft=draft, strict=False)
    creation = None if _is_to_complete(report, policy) else at_once(draft, of_storm.terms)
    wanted = _content_fields(of_storm, creation, policy)
    return record.without_run()._replace(key=storm, dag_id=STORM, run_id=storm, level="storm", of_dag=None, **wanted)
