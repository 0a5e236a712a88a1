"""The one light reader of an incident's state, of either version of the API. No model is built and no call enters.

A failure's process has no time for models. What else an answer holds is not looked at, and an optional property of an
unknown shape counts as unset: an incident that was opened must not be lost for it.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

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
_CLOSING_TIMESTAMPS = frozenset({"closed at", "declined at", "canceled at", "merged at"})


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

    @property
    def label(self) -> str:
        """What people call it: its reference, like INC-12, else its ID."""
        return self.reference or self.id

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


class AlertState(NamedTuple):
    """What an alert source says of an event that it has taken."""

    deduplication_key: str | None = None
    status: str | None = None


def read_alert(content: bytes) -> AlertState:
    """Read the answer to an alert event.

    :raises ValueError: if it is no JSON object.
    """
    body = read_object(content)
    return AlertState(deduplication_key=_text(body, "deduplication_key"), status=_text(body, "status"))


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
    return rows, _text(_mapping(body, "pagination_meta"), "after")


def read_time(value: Any) -> datetime | None:
    """Read a date of the API; one without a zone names no moment."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None


def _state(incident: Any) -> IncidentState:
    identity = _text(incident, "id") if isinstance(incident, dict) else None
    if not identity:
        raise ValueError("it names no incident")
    status = _mapping(incident, "incident_status")
    word = _text(incident, "status") or _text(status, "name")
    return IncidentState(
        id=identity,
        reference=_text(incident, "reference"),
        name=_text(incident, "name"),
        summary=_text(incident, "summary"),
        status=word,
        status_id=_text(status, "id"),
        status_category=_text(status, "category") or _category_of(word),
        permalink=_text(incident, "permalink"),
        created_at=read_time(incident.get("created_at")),
        updated_at=read_time(incident.get("updated_at")),
        closed_at=_closed_at(incident),
        has_lead=any(map(_is_lead, _mappings(incident, "incident_role_assignments"))),
    )


def _category_of(word: str | None) -> str | None:
    """Return the category that v1's word for a status stands for."""
    if word in V1_LIVE:
        return "live"
    return word if word in {"triage", *PAST} else None


def _closed_at(incident: Mapping[str, Any]) -> datetime | None:
    """Read when it was closed: v1 says so in `timestamps`, v2 in `incident_timestamp_values`."""
    rows = [*_mappings(incident, "timestamps"), *_mappings(incident, "incident_timestamp_values")]
    return max(filter(None, map(_closing_time, rows)), default=None)


def _closing_time(row: Mapping[str, Any]) -> datetime | None:
    named, value = row.get("incident_timestamp", row), row.get("value", row)
    if not isinstance(named, dict) or not isinstance(value, dict):
        return None
    if (_text(named, "name") or "").casefold() not in _CLOSING_TIMESTAMPS:
        return None
    return read_time(_text(value, "last_occurred_at") or _text(value, "value"))


def _is_lead(assignment: Mapping[str, Any]) -> bool:
    return _mapping(assignment, "role").get("role_type") == "lead" and bool(assignment.get("assignee"))


def _mapping(thing: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = thing.get(name)
    return value if isinstance(value, dict) else {}


def _mappings(thing: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    rows = thing.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else ()


def _text(thing: Mapping[str, Any], name: str) -> str | None:
    value = thing.get(name)
    return value if isinstance(value, str) else None
