"""Whether an incident was over before a moment: then it cannot stand for what failed after it.

Plain JSON, no model. What cannot be told counts as "no": an incident that may still stand for a failure is not doubled.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_incident.api.calls import PAGE_LIMIT, Call
from airflow_incident.api.incident import PAST
from airflow_incident.errors import IncidentIoError

if TYPE_CHECKING:
    from collections.abc import Generator

    from airflow_incident.api.incident import IncidentHead


def was_over(head: IncidentHead, *, before: datetime) -> Generator[Any, Any, bool]:
    """Return whether an incident was over before a moment; asks for its updates where its own dates do not tell."""
    if not head.is_past:
        return False
    created, updated, closed = map(_moment, (head.created_at, head.updated_at, head.closed_at))
    if created is not None and created >= before:
        return False
    if updated is not None and updated < before:
        return True
    if closed is not None:
        return closed < before
    try:
        ended: datetime | None = yield list_updates(head.id)
    except IncidentIoError:
        return False
    return ended is not None and ended < before


def list_updates(incident_id: str) -> Call[datetime | None]:
    """Ask when an incident was over, as its updates tell.

    https://docs.incident.io/api-reference/incident-updates-v2/list
    """
    query: dict[str, Any] = {"incident_id": incident_id, "page_size": 250}
    return Call("GET", "/v2/incident_updates", parse=_ended, query=query, limit=PAGE_LIMIT)


def _ended(content: bytes) -> datetime | None:
    """Read since when the latest updates all say that it is over."""
    try:
        rows = json.loads(content)["incident_updates"]
        told = [(_moment(row["created_at"]), row["new_incident_status"]["category"] in PAST) for row in rows]
    except (LookupError, TypeError, RecursionError):
        raise ValueError("there is no list of updates") from None
    ended: datetime | None = None
    for moment, is_past in sorted((moment, is_past) for moment, is_past in told if moment is not None)[::-1]:
        if not is_past:
            break
        ended = moment
    return ended


def _moment(text: str | None) -> datetime | None:
    """Read a date of the API; one without a zone says no moment."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment if moment and moment.tzinfo else None
