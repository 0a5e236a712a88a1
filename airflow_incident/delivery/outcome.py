"""What came of a report, a recovery or a flush, and every sentence and log line that says so."""

from __future__ import annotations

import json
from dataclasses import replace
from logging import ERROR, INFO, WARNING
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_incident.airflow_bridge.stats import LogEvent, journal_warning, log_event, note_warning
from airflow_incident.api.calls import PreparedCreate, addressed
from airflow_incident.api.exchange import create_call
from airflow_incident.api.incident import AlertState, incident_label, incident_name
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.text import format_time, log_line
from airflow_incident.core.timing import OVERDUE
from airflow_incident.delivery.record import subject_of
from airflow_incident.delivery.report import by_hand
from airflow_incident.errors import AmbiguousDeliveryError, APIError, IncidentIoError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_incident.api.closing import CloseResult
    from airflow_incident.api.incident import IncidentState
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.text import Redact
    from airflow_incident.delivery.record import OpenIncident, Record
    from airflow_incident.delivery.report import Report


OUTCOMES: Mapping[str, str] = MappingProxyType(
    {
        "opened": "incidents opened, and alerts sent, at once",
        "deduplicated": "reports of what an incident, or a record in the journal, stands for already",
        "grouped": "failures beyond the storm limit: one incident, opened with the first of them, names them all",
        "joined": "failures that joined an incident which was open: the DAG's, or that of the run's earlier attempt",
        "suppressed": "callbacks with nothing to do: `enabled` is false, by airflow.cfg or by a rule; there is no "
        "default connection; another attempt is coming; or, on recovery, the journal is off",
        "journalled": "failures kept in the journal, to be delivered later",
        "replayed": "incidents opened, and alerts sent, out of the journal",
        "dead": "failures that incident.io refused for good; they wait in the journal for somebody who fixes the cause",
        "dropped": "failures neither sent nor kept: the log has all that was known",
        "recovered": "incidents closed, and alerts resolved, because the run recovered",
        "already_closed": "incidents of a recovered run that somebody had closed before",
        "left_open": "recoveries that closed nothing: a person has the incident, it stands for several failures, or "
        "incident.io or the journal could not be asked or refused",
        "withdrawn": "failures that were waiting or refused when their run recovered: they are not sent any more",
    }
)
"""Every outcome: the counter's name, which the line has too, and what it counts."""

ReportKind = Literal["open", "already_open", "closed", "suppressed", "grouped", "joined", "kept", "refused", "failed"]
Before = Literal["waited", "opened", "refused"]
_REPORTS: Mapping[ReportKind, tuple[str, int, str]] = {
    "open": ("opened", INFO, "{named} is open for {subject}"),
    "already_open": ("deduplicated", INFO, "{thing} is already open for {subject} (key {key})"),
    "suppressed": ("deduplicated", INFO, "{named} is already open for {subject}{elsewhere}; no new request"),
    "closed": (
        "deduplicated",
        WARNING,
        "{named} of {subject} was closed by a person; nothing more is sent for this failure",
    ),
    "grouped": ("grouped", WARNING, "{subject} is one of many failures, and is grouped under {named} (key {storm})"),
    "joined": ("joined", INFO, "{subject} joined {named}, which was open already"),
    "kept": ("journalled", WARNING, "{subject} is kept in the journal and {trouble}"),
    "refused": ("dead", ERROR, "{trouble} Then: airflow-incident journal retry"),
    "failed": ("dropped", ERROR, "{trouble}"),
}
"""What may become of a report: which of `OUTCOMES` it is, how loudly the log says it, and the sentence."""
_REPORTED_AGAIN = {("open", "waited"): "replayed", ("open", "refused"): "replayed", ("refused", "waited"): "dead"}
"""The outcome where the failure was in the journal before; else it was counted then."""


class ReportResult(NamedTuple):
    """What became of a report.

    `before` is how its failure, or what it was grouped under, stood in the journal. `caught_up` is what had waited,
    and was answered together with it. `elsewhere` is the connection that has the incident, if it is another one.
    """

    kind: ReportKind
    report: Report
    incident: IncidentState | OpenIncident | None = None
    error: IncidentIoError | None = None
    storm: str | None = None
    journal_error: str | None = None
    creation: PreparedCreate | None = None
    before: Before | None = None
    caught_up: Sequence[Record] = ()
    elsewhere: str = ""

    @classmethod
    def of(
        cls,
        report: Report,
        answer: IncidentState | AlertState | IncidentIoError,
        *,
        kept: bool,
        journal_error: str | None = None,
        creation: PreparedCreate | None = None,
    ) -> ReportResult:
        """Read what incident.io answered.

        :param kept: Whether the report is written down, so that it is not lost if it was not delivered.
        :param journal_error: What kept the journal from being read or written.
        :param creation: What was sent, as far as it came to that.
        """
        if isinstance(answer, APIError) and answer.already_open:
            return cls(kind="already_open", report=report, error=answer, journal_error=journal_error)
        if isinstance(answer, IncidentIoError):
            comes_back = answer.retryable or answer.blames_connection
            kind: ReportKind = "failed" if not kept else "kept" if comes_back else "refused"
            return cls(kind=kind, report=report, error=answer, journal_error=journal_error, creation=creation)
        if isinstance(answer, AlertState):
            return cls(kind="open", report=report, journal_error=journal_error)
        closed = answer.is_closed and not _asked_for(answer, report)
        kind = "closed" if closed else "open"
        return cls(kind=kind, report=report, incident=answer, journal_error=journal_error, creation=creation)

    def log_events(self, redact: Redact, seconds: float) -> Sequence[LogEvent]:
        """Say it in one line, and what else there is to say in others, without secrets.

        :param seconds: How long it took.
        """
        failure, key, incident, error = self.report.failure, self.report.sent_key, self.incident, self.error
        outcome, level, sentence = _REPORTS[self.kind]
        if self.kind == "grouped" and not self.before:  # the storm's incident is opened with its first failure
            outcome = "opened" if incident else "journalled"
        elif self.before and self.kind not in {"failed", "joined", "grouped"}:
            outcome = _REPORTED_AGAIN.get((self.kind, self.before), "deduplicated")
        if self.kind == "kept" and error and error.blames_connection:
            level = ERROR
        if self.elsewhere:
            level = WARNING
        thing = "an alert" if self.report.is_alert else "an incident"
        subject = subject_of(failure.level, failure.dag_id, failure.run_id)
        words = sentence.format(
            named=incident_name(incident) or thing,
            thing=thing,
            subject=subject,
            key=key,
            storm=self.storm,
            elsewhere=f" through connection {self.elsewhere!r}" if self.elsewhere else "",
            trouble=self._trouble(subject) if self.kind in {"kept", "refused", "failed"} else "",
        )
        said = log_event(
            outcome,
            level,
            words,
            redact,
            rest=self._by_hand(redact) if self.kind == "failed" else "",
            dag_id=failure.dag_id,
            run_id=failure.run_id,
            task=failure.task_label,
            source=failure.level,
            key=key,
            incident=incident and incident_label(incident),
            link=incident and incident.permalink,
            storm=self.storm,
            error=error and type(error).__name__,
            request_id=getattr(error, "request_id", None),
            seconds=seconds,
        )
        warnings = [journal_warning(self.journal_error, redact)] if self.journal_error else []
        if self.kind == "open":
            notes = (*self.report.notes, *(self.creation.notes if self.creation else ()))
            warnings += [note_warning(note, redact) for note in dict.fromkeys(notes)]
        return [*warnings, said, *map(record_event, self.caught_up)]

    def _trouble(self, subject: str) -> str:
        """Say why nothing was opened, and what it waits for: a better hour, or a person."""
        error = self.error or IncidentIoError("it was not asked: it had an outage a moment ago, or the time was over")
        if self.kind != "kept":
            none = "NO alert was sent" if self.report.is_alert else "NO incident was opened"
            maybe = " It may have been opened all the same." if error.maybe_delivered else ""
            return f"{none} for {subject}: {type(error).__name__}: {error}.{maybe} {error.advice}"
        if isinstance(error, AmbiguousDeliveryError):
            return f"waits for a decision, for v1 of the API is gone ({error}). {error.advice}"
        if error.blames_connection:
            return f"waits until the connection is fixed: {type(error).__name__}: {error}. {error.advice}"
        return f"will be delivered: {error}"

    def _by_hand(self, redact: Redact) -> str:
        """Say all that is needed to send it."""
        # Redacted value by value: in the encoded text a pattern may swallow quotes, and nobody could send it.
        unsettled = isinstance(self.error, AmbiguousDeliveryError)
        creation = self.creation or by_hand(replace(self.report, choice="v2") if unsettled else self.report)
        path = addressed(create_call(creation).path, self.report.alert_source_id)
        keys = {name: text for name, text in creation.body.items() if name.endswith("_key")}
        body = {name: value for name, value in creation.body.items() if name not in keys}
        return f"To send it by hand: POST {path} " + json.dumps(keys | _each_text(body, redact))


def _asked_for(answer: IncidentState, report: Report) -> bool:
    """Return whether an incident is over because it was to be opened so."""
    wanted = str(report.draft.get("status") or "").casefold()
    return bool(wanted) and wanted in {(answer.status or "").casefold(), (answer.status_id or "").casefold()}


def _each_text(value: Any, change: Redact) -> Any:
    """Change every text in a JSON value."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    return {name: _each_text(item, change) for name, item in value.items()} if isinstance(value, dict) else value


RecordKind = Literal[
    "closed",
    "resolved",
    "already_closed",
    "gone",
    "claimed",
    "kept",
    "refused",
    "dropped",
    "discarded",
    "grouped",
    "unknown",
    "other_connection",
]
_RECORDS: Mapping[RecordKind, tuple[str, int, str]] = {
    "closed": ("recovered", INFO, "{named} is closed because {subject} {did}{link}"),
    "resolved": ("recovered", INFO, "the alert of {subject}, which {did}, is resolved"),
    "already_closed": ("already_closed", INFO, "{named} of {subject}, which {did}, was closed before"),
    "gone": ("already_closed", INFO, "{named} of {subject}, which {did}, no longer exists"),
    "claimed": ("left_open", INFO, "{named} of {subject}, which {did}, stays open: a person has claimed it{link}"),
    "kept": (
        "left_open",
        WARNING,
        "{named} of {subject}, which {did}, stays open for now: {why} The next flush tries again",
    ),
    "refused": ("left_open", ERROR, "{named} of {subject}, which {did}, stays open: {why}"),
    "dropped": ("withdrawn", INFO, "{subject} is dropped: it {did} before incident.io was asked"),
    "discarded": (
        "withdrawn",
        INFO,
        "{subject} is dropped: it {did}, and incident.io had refused the incident: {record.error}",
    ),
    "grouped": ("left_open", INFO, "{subject} {did}; {named}, which stands for several failures, stays as it is"),
    "unknown": (
        "left_open",
        INFO,
        "{subject} {did}; its incident is not known here, so close it by hand (key {record.sent_key})",
    ),
    "other_connection": (
        "left_open",
        INFO,
        "{named} of {subject}, which {did}, is left to connection {record.conn_id!r}",
    ),
}
"""What may become of a record whose run recovered: its outcome, how loudly the log says it, and the sentence."""


class RecordResult(NamedTuple):
    """What became of one record; `link_error` is why the incident has no link to the run, where there is one to link.

    `did` says in words what its run has done since.
    """

    kind: RecordKind
    record: Record
    error: IncidentIoError | None = None
    has_link: bool = False
    link_error: IncidentIoError | None = None
    did: str = "recovered"
    is_linkable: bool = True

    @property
    def outcome(self) -> str:
        """Which of `OUTCOMES` it is."""
        return _RECORDS[self.kind][0]

    def log_event(self, redact: Redact) -> LogEvent:
        """Say it in one line, without secrets."""
        record, incident, error = self.record, self.record.incident, self.error
        outcome, level, sentence = _RECORDS[self.kind]
        link = "; it has a link to the run" if self.has_link else "; it has no link to the run"
        link = link if self.is_linkable else ""
        words = sentence.format(
            record=record,
            named=incident_name(incident) or record.thing,
            subject=record.subject,
            did=self.did,
            link=f"{link} ({self.link_error} {self.link_error.advice})" if self.link_error else link,
            why=f"{error} {error.advice}".rstrip() if error else "incident.io had an outage a moment ago",
        )
        return log_event(
            outcome,
            ERROR if error and error.blames_connection else level,
            words,
            redact,
            dag_id=record.dag_id,
            run_id=record.run_id,
            task=record.task,
            key=record.sent_key,
            incident=incident and incident_label(incident),
            link=incident and incident.permalink,
            error=error and type(error).__name__,
            request_id=getattr(error, "request_id", None),
        )


_CLOSES: Mapping[str, tuple[str, str]] = {
    "closed": ("recovered", "{named} is closed; {link}"),
    "already_closed": ("already_closed", "{named} was closed before"),
    "claimed": ("left_open", "{named} stays open: a person has claimed it; {link}"),
}
"""What may become of an incident that a step of a DAG was to close, unless it fails: its outcome and the sentence."""


def close_event(became: CloseResult, step: Failure, redact: Redact) -> LogEvent:
    """Say in one line what became of an incident that a step of a DAG was to close."""
    outcome, sentence = _CLOSES[became.kind]
    incident, link = became.state, "it has the link" if became.has_link else "it has no link"
    return log_event(
        outcome,
        INFO,
        sentence.format(named=incident_name(incident), link=link),
        redact,
        dag_id=step.dag_id,
        run_id=step.run_id,
        task=step.task_label,
        incident=incident_label(incident),
        link=incident.permalink,
    )


class RecoveryResult(NamedTuple):
    """What a recovery did; `journal_error` is what kept the journal from being read or written."""

    settled: tuple[RecordResult, ...] = ()
    journal_error: str | None = None

    @property
    def error(self) -> IncidentIoError | None:
        """The first error that left an incident open."""
        return next((s.error for s in self.settled if s.error), None)

    def log_events(self, redact: Redact, success: Failure) -> list[LogEvent]:
        """Say it, an outcome a line."""
        lines = [settled.log_event(redact) for settled in self.settled]
        if self.journal_error and lines:
            lines.append(journal_warning(self.journal_error, redact))
        elif self.journal_error:
            words = f"the journal cannot be used: {self.journal_error}"
            facts: dict[str, Any] = {"dag_id": success.dag_id, "run_id": success.run_id, "task": success.task_label}
            lines.append(log_event("left_open", WARNING, words, redact, **facts))
        return lines


class FlushResult(NamedTuple):
    """What a flush found and did: records by what became of them, and names of records that it left alone.

    `dead` is all that was ever refused, `refused` what this flush sent of it. `settled` are runs that have recovered.
    """

    opened: Sequence[Record] = ()
    pending: Sequence[Record] = ()
    dead: Sequence[Record] = ()
    unreadable: Mapping[str, str] = {}
    pruned: int = 0
    stopped: str | None = None
    refused: Sequence[Record] = ()
    settled: Sequence[RecordResult] = ()

    @property
    def recovered(self) -> Sequence[Record]:
        """What was closed because its run recovered."""
        return [settled.record for settled in self.settled if settled.outcome == "recovered"]

    def log_events(self, redact: Redact) -> list[LogEvent]:
        """Say what it did, an outcome a line."""
        answered = map(record_event, (*self.opened, *self.refused))
        return [*answered, *(settled.log_event(redact) for settled in self.settled)]


def summary_line(flushed: FlushResult) -> str:
    """Count what a flush did and left."""
    waiting, refused, unreadable = len(flushed.pending), len(flushed.dead), len(flushed.unreadable)
    why = f" ({clean(flushed.stopped)})" if flushed.stopped else ""
    counts = {
        f"{len(flushed.opened)} delivered": len(flushed.opened),
        f"{waiting} waiting{why}": waiting,
        f"{refused} refused": refused,
        f"{len(flushed.recovered)} closed because the run recovered": len(flushed.recovered),
    }
    told = [text for text, count in counts.items() if count] or ["nothing waits"]
    return ", ".join([*told, *([f"{unreadable} left alone (not readable as ours)"] if unreadable else [])])


def problems(flushed: FlushResult, now: datetime) -> str | None:
    """Say what somebody should look at: what was refused, and what has waited too long."""
    told = []
    if flushed.dead:
        told.append(f"{len(flushed.dead)} refused; fix the cause, then run: airflow-incident journal retry")
    oldest = min((record.written_at for record in flushed.pending), default=None)
    if oldest is not None and now - oldest > OVERDUE:
        why = f": {clean(flushed.stopped)}" if flushed.stopped else ""
        told.append(f"{len(flushed.pending)} waiting, the oldest since {format_time(oldest)}{why}")
    return "; ".join(told) or None


_STATES: Mapping[str, str] = {
    "pending": "{subject} waits since {since}{failed}, {tries}{why}",
    "open": "{named} was opened for {subject}{failed}",
    "over": "{named} of {subject}{failed} is over",
    "grouped": "{subject}{failed} is grouped under {group}",
    "dead": "{subject}{failed} was refused{why}",
}
"""What a person reads of a record in each state; an open one may be known to be over."""


def record_line(record: Record) -> str:
    """Say what became of a failure, and what its incident does not say."""
    incident = incident_name(record.incident)
    tries = {0: "not tried yet", 1: "tried once"}
    facts = {
        "named": incident or record.thing,
        "group": incident or record.storm,
        "subject": record.subject,
        "failed": f" (failed at {format_time(record.failed_at)})" if record.failed_at else "",
        "since": format_time(record.written_at),
        "tries": tries.get(record.attempts, f"tried {record.attempts} times"),
        "why": f": {record.error}" if record.error else "",
    }
    form = _STATES["over" if record.state == "open" and record.already_closed else record.state]
    return " ".join([clean(form.format_map(facts)), *(clean(f"({note})") for note in record.notes)])


def record_event(record: Record) -> LogEvent:
    """Say what became of a failure that had waited, now that incident.io has answered."""
    incident, is_open = record.incident, record.is_delivered
    return log_event(
        "replayed" if is_open else "dead",
        INFO if is_open else ERROR,
        record_line(record),
        redact_secrets,
        dag_id=record.dag_id,
        run_id=record.run_id,
        task=record.task,
        source=record.level,
        key=record.sent_key,
        incident=incident and incident_label(incident),
        link=incident and incident.permalink,
    )


def clean(text: str) -> str:
    """Make one line of any text, without what looks like a secret or would talk to a terminal."""
    return log_line(redact_secrets(text))
