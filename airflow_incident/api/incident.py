"""The one light reader of an incident's state, of either version of the API. No model is built and no call enters.

A failure's process has no time for models. What else an answer holds is not looked at, and an optional property of an
unknown shape counts as unset: an incident that was opened must not be lost for it.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OPEN = ("triage", "live", "paused")
"""Categories of a status in which the trouble goes on."""
CLOSED = frozenset({"closed", "declined", "canceled", "merged"})
"""Categories of a status, and v1's words for it, in which nobody works on an incident any more."""
PAST = CLOSED | {"learning"}
"""The same, with the post-incident flow, for which v1 has no word."""
V1_LIVE = ("investigating", "fixing", "monitoring")
"""v1's words for what v2 calls live. https://docs.incident.io/api-reference/incidents-v1/show"""
_CATEGORIES = dict.fromkeys(V1_LIVE, "live") | {word: word for word in ("triage", *PAST)}
"""The category that v1's word for a status stands for."""
_CLOSING_TIMESTAMPS = frozenset({"closed at", "declined at", "canceled at", "merged at"})
"""v1 says when these were in `timestamps`, v2 in `incident_timestamp_values`."""


class IncidentState(NamedTuple):
    """Which incident it is, and how it stands.

    `status` is v1's word, or in v2 the name of the account's status. `status_category` is what that means, also where
    only v1's word is told; None if nobody can say. `closed_at` is the last moment at which it was closed.
    """

    id: str
    reference: str | None = None
    name: str | None = None
    summary: str | None = None
    status: str | None = None
    status_id: str | None = None
    status_category: str | None = None
    permalink: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    closed_at: datetime | None = None
    has_lead: bool = False
    mode: str | None = None
    visibility: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the trouble goes on: in triage, live or paused."""
        return self.status_category in OPEN

    @property
    def is_closed(self) -> bool:
        """Whether nothing is left to close: closed, declined, canceled or merged."""
        return self.status_category in CLOSED

    @property
    def is_past(self) -> bool:
        """Whether it takes no new failure: closed, or in its post-incident flow."""
        return self.status_category in PAST


class AnyIncident(Protocol):
    """Whatever says which incident it is: its state, what the journal keeps of it, an answer's model."""

    @property
    def id(self) -> str:
        """incident.io's ID."""

    @property
    def reference(self) -> str | None:
        """What people call it, like INC-12."""

    @property
    def permalink(self) -> str | None:
        """The address of its page."""


def incident_label(incident: AnyIncident) -> str:
    """Name an incident by its reference, like INC-12, else by its ID."""
    return incident.reference or incident.id


def incident_name(incident: AnyIncident | None) -> str:
    """Name an incident, with its address, in every message; empty where none is known."""
    return f"{incident_label(incident)} {incident.permalink or ''}".rstrip() if incident else ""


class AlertState(NamedTuple):
    """What an alert source says of an event that it has taken."""

    deduplication_key: str | None = None
    status: str | None = None


def read_alert(content: bytes) -> AlertState:
    """Read the answer to an alert event.

    :raises ValueError: if it is no JSON object.
    """
    said = _texts(read_object(content))
    return AlertState(said.get("deduplication_key"), said.get("status"))


def read_incident_state(content: bytes) -> IncidentState:
    """Read the answer to a create, a show or an edit, of either version.

    :raises ValueError: if it holds no incident.
    """
    return _state(read_object(content).get("incident"))


def read_incident_states(content: bytes) -> tuple[Sequence[IncidentState], str | None]:
    """Read one page of incidents, and after which one the next page begins.

    :raises ValueError: if it holds no list of incidents.
    """
    rows, after = read_page(content, "incidents")
    return [_state(row) for row in rows], after


def read_object(content: bytes) -> dict[str, Any]:
    """Read an answer.

    :raises ValueError: if it is no JSON object.
    """
    body = json.loads(content)
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 -- what cannot be read is a ValueError
    return body


def read_page(content: bytes, name: str) -> tuple[list[Any], str | None]:
    """Read the rows of a list, and after which one its next page begins.

    :raises ValueError: if it holds no list of that name.
    """
    body = read_object(content)
    rows = body.get(name)
    if not isinstance(rows, list):
        raise ValueError(f"there is no list of {name}")  # noqa: TRY004 -- as above
    return rows, _texts(body.get("pagination_meta")).get("after")


def read_time(value: Any) -> datetime | None:
    """Read a date of the API; one without a zone names no moment."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None


def _state(incident: Any) -> IncidentState:
    said = _texts(incident)
    if not said.get("id"):
        raise ValueError("it names no incident")
    status = _texts(incident.get("incident_status"))
    word = said.get("status") or status.get("name")
    closings = [(row.get("name"), row.get("last_occurred_at")) for row in _rows(incident, "timestamps")]
    closings += [
        (_texts(row.get("incident_timestamp")).get("name"), _texts(row.get("value")).get("value"))
        for row in _rows(incident, "incident_timestamp_values")
    ]
    closed_at = (read_time(at) for name, at in closings if str(name).casefold() in _CLOSING_TIMESTAMPS)
    return IncidentState(
        id=said["id"],
        reference=said.get("reference"),
        name=said.get("name"),
        summary=said.get("summary"),
        status=word,
        status_id=status.get("id"),
        status_category=status.get("category") or _CATEGORIES.get(word or ""),
        permalink=said.get("permalink"),
        created_at=read_time(said.get("created_at")),
        updated_at=read_time(said.get("updated_at")),
        closed_at=max(filter(None, closed_at), default=None),
        mode=said.get("mode"),
        visibility=said.get("visibility"),
        has_lead=any(
            row.get("assignee") and _texts(row.get("role")).get("role_type") == "lead"
            for row in _rows(incident, "incident_role_assignments")
        ),
    )


def _texts(thing: Any) -> dict[str, str]:
    """Return those properties of an object that are texts."""
    items = thing.items() if isinstance(thing, dict) else ()
    return {name: value for name, value in items if isinstance(value, str)}


def _rows(thing: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = thing.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
