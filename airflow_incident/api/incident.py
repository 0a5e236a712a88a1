"""As much of an incident as the doors need, read without building a model: a callback's process has no time for one.

What else an answer holds is not looked at: an open incident counts as open, whatever has changed in its details.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_incident.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OVER = frozenset({"closed", "declined", "canceled", "merged"})
"""Categories of a status, and v1's words for it, in which nobody works on an incident any more."""
PAST = OVER | {"learning"}
"""The same, with the post-incident flow: v1 has no word of its own for it, and the trouble is past."""
_ENDS = frozenset({"closed at", "declined at", "canceled at", "merged at"})
"""Names of the moments at which an incident was over."""


class IncidentHead(Frozen):
    """Which incident it is and how it stands.

    `status` is v1's word or the name of the account's status in v2, which tells its `category` too. The moments are
    texts, for hardly anybody needs them; `closed_at` is the last one at which it was over.
    """

    id: str
    reference: str | None = None
    name: str | None = None
    status: str | None = None
    status_id: str | None = None
    category: str | None = None
    permalink: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    closed_at: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether a person has closed or declined it."""
        return (self.category or self.status) in OVER

    @property
    def is_past(self) -> bool:
        """Whether it is over, or in its post-incident flow: it takes no new failure."""
        return (self.category or self.status) in PAST

    @property
    def status_category(self) -> str:
        """The category of its status, also where v1 tells a word only."""
        return self.category or (self.status if self.status in {"triage", *OVER} else None) or "live"


class AlertHead(Frozen):
    """What an alert source says of an event that it has taken."""

    deduplication_key: str | None = None
    status: str | None = None


def read_alert(content: bytes) -> AlertHead:
    """Read the answer to an alert event.

    :raises ValueError: if it is no JSON object.
    """
    body = _object(content)
    return AlertHead(deduplication_key=_text(body, "deduplication_key"), status=_text(body, "status"))


def read_head(content: bytes) -> IncidentHead:
    """Read the answer to a create or a show, of either version.

    :raises ValueError: if it holds no incident.
    """
    return _head(_object(content).get("incident"))


def read_heads(content: bytes) -> tuple[Sequence[tuple[IncidentHead, str | None]], str | None]:
    """Read one page of incidents, each with its summary, and where the list goes on.

    :raises ValueError: if it holds no list of incidents.
    """
    body = _object(content)
    rows = body.get("incidents")
    if not isinstance(rows, list):
        raise ValueError("there is no list of incidents")  # noqa: TRY004 -- what cannot be read is a ValueError
    meta = body.get("pagination_meta")
    after = _text(meta, "after") if isinstance(meta, dict) else None
    return [(_head(row), _text(row, "summary")) for row in rows], after


def _object(content: bytes) -> Mapping[str, Any]:
    body = json.loads(content)
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 -- as above
    return body


def _head(incident: Any) -> IncidentHead:
    """Take an optional property of an unknown shape as unset: an incident that was opened must not be lost for it."""
    identity = _text(incident, "id") if isinstance(incident, dict) else None
    if not identity:
        raise ValueError("it names no incident")
    standing = incident.get("incident_status")
    known: Mapping[str, Any] = standing if isinstance(standing, dict) else {}
    return IncidentHead(
        id=identity,
        reference=_text(incident, "reference"),
        name=_text(incident, "name"),
        status=_text(incident, "status") or _text(known, "name"),
        status_id=_text(known, "id"),
        category=_text(known, "category"),
        permalink=_text(incident, "permalink"),
        created_at=_text(incident, "created_at"),
        updated_at=_text(incident, "updated_at"),
        closed_at=_closed_at(incident),
    )


def _closed_at(incident: Mapping[str, Any]) -> str | None:
    """Read when it was over: v1 says so in `timestamps`, v2 in `incident_timestamp_values`."""
    moments = [_end(row) for name in ("timestamps", "incident_timestamp_values") for row in _rows(incident, name)]
    return max(filter(None, moments), default=None)


def _end(row: Mapping[str, Any]) -> str | None:
    named, value = row.get("incident_timestamp", row), row.get("value", row)
    if not isinstance(named, dict) or not isinstance(value, dict):
        return None
    ends = (_text(named, "name") or "").casefold() in _ENDS
    return (_text(value, "last_occurred_at") or _text(value, "value")) if ends else None


def _rows(incident: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    rows = incident.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else ()


def _text(thing: Mapping[str, Any], name: str) -> str | None:
    value = thing.get(name)
    return value if isinstance(value, str) else None
