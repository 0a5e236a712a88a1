"""What came of a report, a recovery or a flush, and every sentence and log line that says so."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_incident.airflow_bridge.stats import LogEvent, journal_warning, log_event
from airflow_incident.api.calls import PreparedCreate, addressed, create_call
from airflow_incident.api.incident import AlertState
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.text import format_time, log_line
from airflow_incident.core.timing import OVERDUE
from airflow_incident.delivery.report import by_hand
from airflow_incident.errors import AmbiguousDeliveryError, APIError, IncidentIoError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_incident.api.incident import IncidentState
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.text import Redact
    from airflow_incident.delivery.record import OpenIncident, Record
    from airflow_incident.delivery.report import Report


ReportKind = Literal["open", "already_open", "closed", "suppressed", "grouped", "joined", "kept", "refused", "failed"]
Before = Literal["waited", "opened", "refused"]
_REPORT_OUTCOMES: dict[tuple[ReportKind, Before | None], str] = {
    ("open", None): "opened",
    ("open", "waited"): "replayed",
    ("open", "refused"): "replayed",
    ("kept", None): "journalled",
    ("refused", None): "dead",
    ("refused", "waited"): "dead",
    ("grouped", None): "grouped",
    ("grouped", "opened"): "grouped",
    ("joined", "opened"): "joined",
}
_REPORTS: Mapping[ReportKind, tuple[int, str]] = MappingProxyType(
    {
        "open": (logging.INFO, "{named} is open for {subject}"),
        "already_open": (logging.INFO, "{thing} is already open for {subject} (key {key})"),
        "suppressed": (logging.INFO, "{named} is already open for {subject}; no new request"),
        "closed": (
            logging.WARNING,
            "{named} of {subject} was closed by a person; nothing more is sent for this failure",
        ),
        "grouped": (logging.WARNING, "{subject} is one of many failures, and is grouped under {named} (key {storm})"),
        "joined": (logging.INFO, "{subject} joined {named}, which was open already"),
        "kept": (logging.WARNING, "{subject} is kept in the journal and {waits}"),
        "refused": (logging.ERROR, "{lost} Then: airflow-incident journal retry"),
        "failed": (logging.ERROR, "{lost}"),
    }
)
"""What may become of a report: how loudly the log says it, and the sentence."""


class ReportResult(NamedTuple):
    """What became of a report.

    `before` is how its failure, or what it was grouped under, stood in the journal. `caught_up` is what had waited,
    and was answered together with it.
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
        return cls(kind="closed" if closed else "open", report=report, incident=answer, journal_error=journal_error)

    @property
    def outcome(self) -> str:
        """Which of `stats.OUTCOMES` it is: an incident is opened or replayed once, whoever reports it again."""
        if self.kind == "grouped" and not self.incident:
            return "journalled"
        return "dropped" if self.kind == "failed" else _REPORT_OUTCOMES.get((self.kind, self.before), "deduplicated")

    def log_events(self, redact: Redact, seconds: float) -> Sequence[LogEvent]:
        """Say it in one line, and what else there is to say in others, without secrets.

        :param seconds: How long it took.
        """
        lines = [journal_warning(self.journal_error, redact)] if self.journal_error else []
        lines.append(self._outcome_event(redact, seconds))
        return [*lines, *map(record_event, self.caught_up)]

    def _outcome_event(self, redact: Redact, seconds: float) -> LogEvent:
        failure, incident = self.report.failure, self.incident
        return log_event(
            self.outcome,
            self._level,
            self._message(),
            redact,
            rest=self._by_hand(redact) if self.kind == "failed" else "",
            dag_id=failure.dag_id,
            run_id=failure.run_id,
            task=failure.task_label,
            source=failure.level,
            key=self.report.sent_key,
            incident=incident and (incident.reference or incident.id),
            link=incident and incident.permalink,
            storm=self.storm,
            error=self.error and type(self.error).__name__,
            request_id=getattr(self.error, "request_id", None),
            seconds=seconds,
        )

    @property
    def _level(self) -> int:
        """How loudly to say it: what waits for a person is an error, whoever keeps it meanwhile."""
        if self.kind == "kept" and self.error and self.error.blames_connection:
            return logging.ERROR
        return _REPORTS[self.kind][0]

    def _by_hand(self, redact: Redact) -> str:
        """Say all that is needed to send it."""
        # Redacted value by value: in the encoded text a pattern may swallow quotes, and nobody could send it.
        unsettled = isinstance(self.error, AmbiguousDeliveryError)
        creation = self.creation or by_hand(replace(self.report, choice="v2") if unsettled else self.report)
        path = addressed(create_call(creation).path, self.report.alert_source_id)
        keys = {name: text for name, text in creation.body.items() if name.endswith("_key")}
        body = {name: value for name, value in creation.body.items() if name not in keys}
        return f"To send it by hand: POST {path} " + json.dumps(keys | _each_text(body, redact))

    def _message(self) -> str:
        thing = "an alert" if self.report.is_alert else "an incident"
        error = self.error or IncidentIoError("it was not asked: it had an outage a moment ago, or the time was over")
        maybe = " It may have been opened all the same." if error.maybe_delivered else ""
        none = "NO alert was sent" if self.report.is_alert else "NO incident was opened"
        subject = self.report.subject
        return _REPORTS[self.kind][1].format(
            named=incident_name(self.incident) or thing,
            thing=thing,
            subject=subject,
            key=self.report.sent_key,
            storm=self.storm,
            waits=_waits_for(error),
            lost=f"{none} for {subject}: {type(error).__name__}: {error}.{maybe} {error.advice}",
        )


def _waits_for(error: IncidentIoError) -> str:
    """Say what a failure waits for: a better hour, or a person."""
    if isinstance(error, AmbiguousDeliveryError):
        return f"waits for a decision, for v1 of the API is gone ({error}). {error.advice}"
    if error.blames_connection:
        return f"waits until the connection is fixed: {type(error).__name__}: {error}. {error.advice}"
    return f"will be delivered: {error}"


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
_RECORDS: Mapping[RecordKind, tuple[str, int, str]] = MappingProxyType(
    {
        "closed": ("recovered", logging.INFO, "{named} is closed because {subject} {did}; {link}"),
        "resolved": ("recovered", logging.INFO, "the alert of {subject}, which {did}, is resolved"),
        "already_closed": ("already_closed", logging.INFO, "{named} of {subject}, which {did}, was closed before"),
        "gone": ("already_closed", logging.INFO, "{named} of {subject}, which {did}, no longer exists"),
        "claimed": (
            "left_open",
            logging.INFO,
            "{named} of {subject}, which {did}, stays open: a person has claimed it; {link}",
        ),
        "kept": (
            "left_open",
            logging.WARNING,
            "{named} of {subject}, which {did}, stays open for now: {why} The next flush tries again",
        ),
        "refused": ("left_open", logging.ERROR, "{named} of {subject}, which {did}, stays open: {why}"),
        "dropped": ("withdrawn", logging.INFO, "{subject} is dropped: the run {did} before incident.io was asked"),
        "discarded": (
            "withdrawn",
            logging.INFO,
            "{subject} is dropped: the run {did}, and incident.io had refused it: {record.error}",
        ),
        "grouped": (
            "left_open",
            logging.INFO,
            "{subject} {did}; {named}, which stands for several failures, stays as it is",
        ),
        "unknown": (
            "left_open",
            logging.INFO,
            "{subject} {did}; its incident is not known here, so close it by hand (key {record.sent_key})",
        ),
        "other_connection": (
            "left_open",
            logging.INFO,
            "{named} of {subject}, which {did}, is left to connection {record.conn_id!r}",
        ),
    }
)
"""What may become of a record whose run recovered: its outcome, how loudly the log says it, and the sentence."""


class RecordResult(NamedTuple):
    """What became of one record; `link_error` is why the incident has no link to the run.

    `all_the_same` says that it is of the very attempt that succeeded.
    """

    kind: RecordKind
    record: Record
    error: IncidentIoError | None = None
    has_link: bool = False
    link_error: IncidentIoError | None = None
    all_the_same: bool = False

    @property
    def outcome(self) -> str:
        """Which of `stats.OUTCOMES` it is."""
        return _RECORDS[self.kind][0]

    def log_event(self, redact: Redact) -> LogEvent:
        """Say it in one line, without secrets."""
        record, incident = self.record, self.record.incident
        return log_event(
            self.outcome,
            self._level,
            self._message(),
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
        return _RECORDS[self.kind][1]

    def _message(self) -> str:
        record = self.record
        link = "it has a link to the run" if self.has_link else "it has no link to the run"
        return _RECORDS[self.kind][2].format(
            record=record,
            named=incident_name(record.incident) or record.thing,
            subject=f"DAG {record.dag_id}, run {record.run_id}",
            did="succeeded all the same" if self.all_the_same else "recovered",
            link=f"{link} ({self.link_error} {self.link_error.advice})" if self.link_error else link,
            why=f"{self.error} {self.error.advice}".rstrip()
            if self.error
            else "incident.io had an outage a moment ago",
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
            lines.append(log_event("left_open", logging.WARNING, words, redact, **facts))
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

    @property
    def oldest_pending(self) -> datetime | None:
        """When the oldest failure that still waits was written down."""
        return min((record.written_at for record in self.pending), default=None)


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
    oldest = flushed.oldest_pending
    if oldest is not None and now - oldest > OVERDUE:
        why = f": {clean(flushed.stopped)}" if flushed.stopped else ""
        told.append(f"{len(flushed.pending)} waiting, the oldest since {format_time(oldest)}{why}")
    return "; ".join(told) or None


_STATES: Mapping[str, str] = MappingProxyType(
    {
        "pending": "{subject} waits since {since}{failed}, {tries}{why}",
        "open": "{named} is open for {subject}{failed}",
        "over": "{named} of {subject}{failed} is over",
        "grouped": "{subject}{failed} is grouped under {group}",
        "dead": "{subject}{failed} was refused{why}",
    }
)
"""What a person reads of a record in each state; an open one may be known to be over."""


def record_line(record: Record) -> str:
    """Say what became of a failure."""
    named = incident_name(record.incident)
    sentence = _STATES["over" if record.state == "open" and record.already_closed else record.state]
    line = sentence.format(
        named=named or record.thing,
        group=named or record.storm,
        subject=f"DAG {record.dag_id}, run {record.run_id}",
        failed=f" (failed at {format_time(record.failed_at)})" if record.failed_at else "",
        since=format_time(record.written_at),
        tries=tries(record),
        why=f": {record.error}" if record.error else "",
    )
    return clean(line)


def record_event(record: Record) -> LogEvent:
    """Say what became of a failure that had waited, now that incident.io has answered."""
    incident = record.incident
    return log_event(
        "replayed" if record.state == "open" else "dead",
        logging.INFO if record.state == "open" else logging.ERROR,
        record_line(record),
        redact_secrets,
        dag_id=record.dag_id,
        run_id=record.run_id,
        task=record.task,
        source=record.level,
        key=record.sent_key,
        incident=incident and (incident.reference or incident.id),
        link=incident and incident.permalink,
    )


def incident_name(incident: IncidentState | OpenIncident | None) -> str:
    """Name an incident, with its address; empty where none is known."""
    return f"{incident.reference or incident.id} {incident.permalink or ''}".rstrip() if incident else ""


def tries(record: Record) -> str:
    """Count the attempts."""
    return {0: "not tried yet", 1: "tried once"}.get(record.attempts, f"tried {record.attempts} times")


def clean(text: str) -> str:
    """Make one line of any text, without what looks like a secret or would talk to a terminal."""
    return log_line(redact_secrets(text))
