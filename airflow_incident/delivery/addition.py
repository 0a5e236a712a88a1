"""What an incident that is open is told later: in its text, where that is ours still, else by a link."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.api.incident import IncidentState
from airflow_incident.delivery.effects import Ask, Attach, Show
from airflow_incident.errors import IncidentIoError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from airflow_incident.delivery.effects import Effect
    from airflow_incident.delivery.record import OpenIncident, Record


class Addition(NamedTuple):
    """What there is to say.

    `edit` makes a new summary of the one that was sent, and `notify` says so in the incident's channel. `is_own` tells
    from a summary itself whether it is one that was sent. `title` and `url` are the link for an incident that a person
    has touched; without an address there is none.
    """

    edit: Callable[[str], str]
    title: str = ""
    url: str | None = None
    notify: bool = False
    is_own: Callable[[str], bool] | None = None


def add(
    record: Record, addition: Addition, shown: IncidentState | None = None
) -> Generator[Effect, Any, Record | None]:
    """Tell an open record's incident; return the record as it is to be kept, None if nothing could be said.

    :param shown: How the incident stands, if it was asked for just now.
    """
    incident = record.incident
    if incident is None:
        return None
    if incident.text_mark or addition.is_own:
        state = shown or (yield Show(incident.id, record.conn_id))
        if isinstance(state, IncidentState) and _is_untouched(state, incident, addition):
            from airflow_incident.api.endpoints import edit_summary  # few failures ask

            summary = addition.edit(state.summary or "")
            if summary == state.summary:  # it says so already
                return record
            call = edit_summary(incident.id, summary=summary, notify_channel=addition.notify)
            if isinstance((yield Ask(call, record.conn_id)), IncidentState):
                return record._replace(incident=incident._replace(text_mark=text_mark(state.name, summary)))
    if addition.url is None:
        return None
    answer = yield Attach(incident.id, addition.url, addition.title, record.conn_id)
    return None if isinstance(answer, IncidentIoError) else record


def text_mark(name: str | None, summary: str | None) -> str:
    """Return what tells a text from another; white space, which incident.io may change, does not count."""
    return sha256(" ".join(f"{name} {summary}".split()).encode("utf-8", "replace")).hexdigest()[:16]


def _is_untouched(state: IncidentState, incident: OpenIncident, addition: Addition) -> bool:
    """Return whether no person has claimed an incident, or changed a word of it."""
    if (state.has_lead and not incident.was_assigned) or state.status_category != incident.began:
        return False
    if addition.is_own:
        return addition.is_own(state.summary or "")
    return text_mark(state.name, state.summary) == incident.text_mark
