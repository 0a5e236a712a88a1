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
from airflow_incident.core.key import ALERT_MARK, earlier_keys, idempotency_key, scope_of, started_key
from airflow_incident.core.text import (
    LISTED_TASKS,
    beginning,
    one_line,
    reason_text,
    summary,
    title,
    with_notes,
    with_origin,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_incident.api.payload import Draft
    from airflow_incident.api.submit import Choice
    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.settings import Settings
    from airflow_incident.core.text import Redact


MOST_ATTEMPTS = 3
"""Earlier attempts of a run that are looked at for an incident that is open."""


class IncidentContent(NamedTuple):
    """What a caller wants an incident to say; None asks for the default text.

    `key_name` separates deliberate incidents of one run. `fields` are further fields of the body.
    `notes` are what the reader should know about the report itself. `strict` fails on what cannot be used, instead of
    opening the incident without it.
    """

    name: str | None = None
    summary: str | None = None
    key_name: str | None = None
    fields: Mapping[str, Any] = MappingProxyType({})
    notes: Sequence[str] = ()
    strict: bool = False


@dataclass(frozen=True)
class Report:
    """A failure, ready to be sent, in the words of whoever set it up; an alert to a source of this ID.

    `next_keys` are the idempotency keys to go on with, as in `api.submit.SubmitOptions`. `own_key` is what it is known
    by where it is asked for with another key. `earlier_keys` are those of the run's earlier attempts whose incident may
    take it, the latest first.
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


def prepare(failure: Failure, settings: Settings, wish: IncidentContent, *, deployment: str, redact: Redact) -> Report:
    """Decide key and text of a failure's incident.

    :raises ConfigurationError: if the failure names no run, or a field cannot be used.
    """
    scope = scope_of(failure, settings.scope)
    failure = failure._replace(reason=redact(failure.reason)) if failure.reason else failure
    key = idempotency_key(failure, deployment=deployment, scope=scope, name=wish.key_name)
    whole_run = scope in {"dag", "run"}
    name = one_line(redact(_given(wish.name)))
    own = redact(_given(wish.summary))
    text = (
        with_origin(own, failure, deployment=deployment)
        if own
        else summary(failure, deployment=deployment, redact=redact)
    )
    name = name or title(failure, whole_run=whole_run)
    text = with_notes(text, [redact(note) for note in wish.notes])
    if settings.channel == "alert":
        draft = create_alert(
            deduplication_key=key,
            title=name,
            description=text,
            source_url=failure.log_url or failure.run_url,
            metadata=_metadata(failure, settings, deployment),
        )
        return Report(failure, draft, scope, alert_source_id=settings.alert_source_id)
    again = started_key(failure, deployment=deployment, scope=scope, name=wish.key_name)
    next_keys = ((again, failure.started_at),) if again and failure.started_at else ()
    fields: dict[str, Any] = {"name": name, "summary": text, **settings.incident_fields(), **wish.fields}
    if wish.strict:
        draft = create_draft(idempotency_key=key, **fields)
    else:
        draft, problems = create_usable_draft(idempotency_key=key, **fields)
        draft["summary"] = with_notes(text, [f"Left out: {problem}." for problem in problems])
    return Report(
        failure,
        draft,
        scope,
        _choice(settings),
        wish.strict,
        next_keys=next_keys,
        earlier_keys=_earlier(failure, settings, wish, deployment=deployment, scope=scope),
    )


def _earlier(
    failure: Failure, settings: Settings, wish: IncidentContent, *, deployment: str, scope: Scope
) -> Sequence[str]:
    """Return the keys of the latest attempts whose incident may take the failure; not what a step opens on purpose."""
    if settings.refail != "join" or wish.key_name or failure.level == "operator" or scope == "dag":
        return ()
    return earlier_keys(failure, deployment=deployment, scope=scope)[: -MOST_ATTEMPTS - 1 : -1]


def _metadata(failure: Failure, settings: Settings, deployment: str) -> dict[str, Any]:
    """Say in single words what incident.io's alert routes can decide by."""
    return {
        "dag_id": failure.dag_id,
        "run_id": failure.run_id,
        "task_id": failure.task_id,
        "deployment": deployment,
        "severity": settings.severity,
        "mode": settings.mode,
        "owners": list(failure.owners),
        "tags": list(failure.tags),
    }


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
