"""A failure as a request, and what became of it in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.api.calls import PreparedCreate
from airflow_incident.api.payload import NAMED, create_alert, create_draft, create_usable_draft, is_alert
from airflow_incident.api.submit import SubmitOptions, at_once
from airflow_incident.constants import NEVER_WEAKER
from airflow_incident.core.failure import LISTED_TASKS
from airflow_incident.core.key import ALERT_MARK, earlier_keys, idempotency_key, scope_of, started_key
from airflow_incident.core.settings import OPTIONS
from airflow_incident.core.text import LISTED, beginning, failed_labels, one_line, reason_text, redacted, summary, title
from airflow_incident.core.text_edits import left_out, with_notes, with_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from airflow_incident.api.payload import Draft
    from airflow_incident.api.submit import Choice
    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.settings import Settings
    from airflow_incident.core.text import Redact
    from airflow_incident.errors import IncidentIoError, Problem


MOST_ATTEMPTS = 3
"""Earlier attempts of a run that are looked at for an incident that is open."""


class IncidentContent(NamedTuple):
    """What a caller wants an incident to say; None asks for the default text.

    `key_name` separates deliberate incidents of one run. `fields` are further fields of the body. `notes` are short
    sentences on what the reader sees differently; `problems` are settings that cannot be used. `strict` fails on what
    cannot be used, instead of opening the incident without it.
    """

    name: str | None = None
    summary: str | None = None
    key_name: str | None = None
    fields: Mapping[str, Any] = MappingProxyType({})
    notes: Sequence[str] = ()
    problems: Sequence[Problem] = ()
    strict: bool = False


@dataclass(frozen=True)
class Report:
    """A failure, ready to be sent, in the words of whoever set it up; an alert to a source of this ID.

    `next_keys` are the idempotency keys to go on with, as in `api.submit.SubmitOptions`. `own_key` is what it is known
    by where it is asked for with another key. `earlier_keys` are those of the run's earlier attempts whose incident may
    take it, the latest first. `notes` say what was left out, and why.
    """

    failure: Failure
    draft: Draft
    scope: Scope = "run"
    choice: Choice = "auto"
    strict: bool = False
    alert_source_id: str | None = None
    next_keys: Sequence[tuple[str, datetime]] = ()
    own_key: str | None = None
    earlier_keys: Sequence[str] = ()
    notes: Sequence[str] = ()

    @cached_property
    def is_alert(self) -> bool:
        """Whether it is an alert, and no incident."""
        return is_alert(self.draft)

    @cached_property
    def sent_key(self) -> str:
        """Its idempotency key; its deduplication key, with a mark, where it is an alert."""
        if self.is_alert:
            return ALERT_MARK + str(self.draft["deduplication_key"])
        return str(self.draft["idempotency_key"])

    @cached_property
    def key(self) -> str:
        """What tells it from other reports, in the journal."""
        return self.own_key or self.sent_key

    @cached_property
    def terms(self) -> SubmitOptions:
        """How it is to be sent."""
        failed_at = self.failure.failed_at
        # A day before, for the two clocks may disagree about which day it was.
        since = f"{failed_at - timedelta(days=1):%Y-%m-%d}" if failed_at else None
        return SubmitOptions(self.choice, with_notes, strict=self.strict, since=since, next_keys=self.next_keys)

    def asked_as(self, key: str, next_keys: Sequence[tuple[str, datetime]] = ()) -> Report:
        """Return the same report, to be asked for with another idempotency key."""
        if key == self.sent_key:
            return replace(self, next_keys=next_keys)
        return replace(self, draft={**self.draft, "idempotency_key": key}, next_keys=next_keys, own_key=self.key)


class DeliveryPolicy(NamedTuple):
    """How a report is to be handled.

    `send` false writes it down only. `storm_dag` and `storm_connection` are how many incidents one DAG and all that
    use the connection may open within ten minutes; 0 is no limit. `now` tells the time of day, `has_time` whether there
    is time to deliver what waits as well; by default there is none. `v1_gone` says that this process has met the end
    of the API's first version. `unusable` is why no request can be made at all, `own_fields` what the caller set, where
    the connection's options are not known.
    """

    now: Callable[[], datetime]
    deployment: str
    conn_id: str
    send: bool = True
    storm_dag: int = 5
    storm_connection: int = 20
    has_time: Callable[[], bool] = bool
    v1_gone: bool = False
    unusable: IncidentIoError | None = None
    own_fields: tuple[str, ...] | None = None


def prepare(failure: Failure, settings: Settings, wish: IncidentContent, *, deployment: str, redact: Redact) -> Report:
    """Decide key and text of a failure's incident.

    :raises ConfigurationError: if the failure names no run, or a field cannot be used.
    """
    # A step's incident stands for the step, in a backfill, too: another step may close it.
    scope = settings.scope if failure.level == "operator" else scope_of(failure, settings.scope)
    failure = failure._replace(reason=redact(failure.reason)) if failure.reason else failure
    key = idempotency_key(failure, deployment=deployment, scope=scope, name=wish.key_name)
    shown = redacted(failure, redact)
    name = one_line(redact(_given(wish.name))) or title(shown, whole_run=scope in {"dag", "run"})
    own = redact(_given(wish.summary))
    text = with_origin(own, shown, deployment=deployment) if own else summary(shown, deployment=deployment, scope=scope)
    if settings.channel == "alert":
        draft = create_alert(
            deduplication_key=key,
            title=name,
            description=with_notes(text, wish.notes),
            source_url=failure.log_url or failure.run_url,
            metadata=_metadata(shown, settings, deployment),
        )
        return Report(failure, draft, scope, alert_source_id=settings.alert_source_id)
    again = started_key(failure, deployment=deployment, scope=scope, name=wish.key_name)
    next_keys = ((again, failure.started_at),) if again and failure.started_at else ()
    fields: dict[str, Any] = {"name": name, "summary": text, **settings.incident_fields(), **wish.fields}
    problems: Sequence[Problem] = ()
    if wish.strict:
        draft = create_draft(idempotency_key=key, **fields)
    else:
        draft, problems = create_usable_draft(idempotency_key=key, **fields)
    unread = [problem.option for problem in wish.problems if problem.option in OPTIONS.keys() - NEVER_WEAKER.keys()]
    lost = [
        *(OPTIONS[name].label for name in unread if OPTIONS[name].drafted),
        *(problem.where for problem in problems),
    ]
    draft["summary"] = with_notes(text, [*wish.notes, *left_out(lost)])
    return Report(
        failure,
        draft,
        scope,
        _choice(settings),
        wish.strict,
        next_keys=next_keys,
        earlier_keys=_earlier(failure, settings, wish, deployment=deployment, scope=scope),
        notes=[f"Left out: {problem}." for problem in problems],
    )


def _earlier(
    failure: Failure, settings: Settings, wish: IncidentContent, *, deployment: str, scope: Scope
) -> Sequence[str]:
    """Return the keys of the latest attempts whose incident may take the failure; not what a step opens on purpose."""
    if settings.refail != "join" or wish.key_name or failure.level == "operator":
        return ()
    return earlier_keys(failure, deployment=deployment, scope=scope)[: -MOST_ATTEMPTS - 1 : -1]


def _metadata(shown: Failure, settings: Settings, deployment: str) -> dict[str, Any]:
    """Say in single words what incident.io's alert routes can decide by; what is unknown is left out."""
    label = shown.task_label or ""
    facts = {
        "source": shown.level,
        "dag_id": shown.dag_id,
        "run_id": shown.run_id,
        "run_type": shown.run_type,
        "task_id": shown.task_id,
        "map_index": shown.map_index if shown.map_index >= 0 else None,
        "map_name": shown.map_names.get(label),
        "failed_tasks": list(failed_labels(shown)[:LISTED_TASKS]),
        "exception_type": shown.exception_type,
        "reason": shown.reason,
        "downstream_count": max(shown.downstream_count or 0, len(shown.downstream)) or None,
        "assets": list(shown.assets[:LISTED]),
        "owners": list(shown.owners),
        "tags": list(shown.tags),
        "runbook": shown.runbook,
        "run_url": shown.run_url,
        "log_url": shown.log_url,
        "attempt": shown.attempt,
        "clear_count": shown.clear_count,
        "failures_before": shown.failures_before,
        "bundle": shown.bundle,
        "dag_version": shown.dag_version,
        "deployment": deployment,
        "severity": settings.severity,
        "mode": settings.mode,
    }
    for name in ("logical_date", "started_at", "failed_at", "last_success", "deadline_at"):
        facts[name] = (moment := getattr(shown, name)) and moment.isoformat()
    return {name: value for name, value in facts.items() if value not in (None, "", [])}


def _choice(settings: Settings) -> Choice:
    return settings.api_version  # type: ignore[return-value]  # the option's choices are the same words


def by_hand(report: Report) -> PreparedCreate:
    """Build a body for a person to send; names that only incident.io can turn into IDs are left out."""
    draft = {name: value for name, value in report.draft.items() if name not in NAMED}
    lenient = report.terms._replace(strict=False)
    return at_once(report.draft, lenient) or at_once(draft, lenient) or PreparedCreate(dict(draft))


def late_note(failure: Failure, *, known: str | None) -> str | None:
    """Say in one line what the DAG's callback knows beyond a task's; None if it knows nothing.

    :param known: The failed task that the incident names already.
    """
    failed = () if failure.failed_tasks == (known,) else failure.failed_tasks
    tasks = ", ".join(failed[:LISTED_TASKS])
    more = len(failed) - LISTED_TASKS
    listed = f"Failed tasks: {tasks}" + (f" and {more} more" if more > 0 else "") if tasks else ""
    reason = reason_text(failure.reason)
    return one_line("; ".join(filter(None, (listed, reason)))) or None


def _given(text: str | None) -> str:
    """Read a text that a person or a template wrote; white space says nothing."""
    return "" if text is None else beginning(str(text).strip())
