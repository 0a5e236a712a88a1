"""How incidents stand: which of some are still open, read as lightly as a sensor may ask again and again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_incident.api.calls import Call, CallSequence, PaginatedCall, pages
from airflow_incident.api.filters import filter_query
from airflow_incident.api.incident import OVER
from airflow_incident.api.names import find_severity
from airflow_incident.errors import ConfigurationError, IncidentIoError, NotFoundError, Problem
from airflow_incident.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_incident.api.directory import Directory, Row
    from airflow_incident.api.names import Steps

OPEN_CATEGORIES = ("triage", "live", "paused")
"""An incident of any other category is over; one in its post-incident flow is, for the trouble is past."""
MODES = ("real", "test")
_ALL_MODES = ("standard", "retrospective", "test", "tutorial")
_MOST_SHOWN = 10
"""More incidents than these are not asked for one by one: one list of what is open answers for all."""

_MOST_TOLD = 10


class Standing(Frozen):
    """One incident, how it stands, and whether somebody leads it."""

    id: str
    reference: str
    status: str
    category: str
    created_at: datetime | None = None
    permalink: str | None = None
    has_lead: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to close."""
        return self.category in OVER

    @property
    def is_open(self) -> bool:
        """Whether the trouble goes on."""
        return self.category in OPEN_CATEGORIES

    def line(self, now: datetime) -> str:
        """Say how it stands and since when, in a few words."""
        since = "" if self.created_at is None else f", open for {_duration((now - self.created_at).total_seconds())}"
        return f"{self.reference} is {self.status} ({self.category}){since}"


class WaitCondition(Frozen):
    """What is waited for: that some incidents are over, or all of a severity or above.

    :param may_be_gone: Whether an incident that is not there counts as over.
    :param mode: Incidents of a severity count if they are `real`, or if they are a `test`.
    """

    incident_ids: Sequence[str] = ()
    severity: str | None = None
    mode: str = "real"
    may_be_gone: bool = False

    def still_open(self) -> CallSequence[list[Standing]]:
        """Build the calls that tell which incidents are not over yet."""
        return CallSequence(self._steps)

    def _steps(self, directory: Directory) -> Steps[list[Standing]]:
        if self.severity is not None:
            return (yield from _open_of_severity(self.severity, self.mode, directory))
        if len(self.incident_ids) > _MOST_SHOWN:
            rows = yield _list_open(mode={"one_of": _ALL_MODES})
            return [row for row in rows if row.is_open and row.id in self.incident_ids]
        found: list[Standing] = []
        for incident_id in self.incident_ids:
            try:
                found.append((yield show_standing(incident_id)))
            except NotFoundError:
                if not self.may_be_gone:
                    raise
        return [one for one in found if one.is_open]


def _open_of_severity(wanted: str, mode: str, directory: Directory) -> Steps[list[Standing]]:
    if mode not in MODES:
        raise ConfigurationError([Problem("Incident mode", f"{mode!r} is unknown; use one of: {', '.join(MODES)}")])
    # Also an ID is looked up: of one that is mistyped nothing is ever open.
    severity, _ = yield from find_severity(wanted, directory)
    more = {"mode": {"one_of": ["test"]}} if mode == "test" else {}
    rows = yield _list_open(severity={"gte": [severity["id"]]}, **more)
    return [row for row in rows if row.is_open]


def status_message(waiting: Sequence[Standing], now: datetime) -> str:
    """Say what is waited for, in one line."""
    lines = [one.line(now) for one in waiting[:_MOST_TOLD]]
    more = [f"and {len(waiting) - _MOST_TOLD} more"] if len(waiting) > _MOST_TOLD else []
    return f"incident.io: waiting: {'; '.join(lines + more)}"


def retry_message(error: IncidentIoError) -> str:
    """Say why it is not known how incidents stand, and that this ends nothing."""
    return f"incident.io: waiting on, though how incidents stand is not known now: {error} {error.advice}"


def show_standing(incident_id: str) -> Call[Standing]:
    """Show how one incident stands; v1 has no word for many categories.

    https://docs.incident.io/api-reference/incidents-v2/show
    """
    return Call("GET", f"/v2/incidents/{quote(incident_id, safe='')}", read_standing)


def _list_open(**filters: Any) -> PaginatedCall[Standing]:
    """List incidents that are open.

    https://docs.incident.io/api-reference/incidents-v2/list
    """
    return pages("/v2/incidents", _read_page, filter_query({"status_category": {"one_of": OPEN_CATEGORIES}, **filters}))


def read_standing(content: bytes) -> Standing:
    """Read the answer to a show or an edit.

    :raises ValueError: if it holds no incident with a status.
    """
    return _standing(_part(json.loads(content), "incident"))


def _read_page(content: bytes) -> tuple[Sequence[Standing], str | None]:
    answer = json.loads(content)
    rows = answer.get("incidents") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise ValueError("no list of incidents")  # noqa: TRY004 -- what Call.parse raises
    meta = answer.get("pagination_meta")
    after = meta.get("after") if isinstance(meta, dict) else None
    return [_standing(row) for row in rows], after if isinstance(after, str) else None


def _standing(row: Any) -> Standing:
    """Read an incident; one without a category cannot be said to be over."""
    status = _part(row, "incident_status")
    if not isinstance(row.get("id"), str) or not isinstance(status.get("category"), str):
        raise ValueError("no incident with a status")  # noqa: TRY004 -- what Call.parse raises
    return Standing(
        id=row["id"],
        reference=str(row.get("reference") or row["id"]),
        status=str(status.get("name") or status["category"]),
        category=status["category"],
        created_at=_moment(row.get("created_at")),
        permalink=row["permalink"] if isinstance(row.get("permalink"), str) else None,
        has_lead=any(map(_is_lead, roles))
        if isinstance(roles := row.get("incident_role_assignments"), list)
        else False,
    )


def _is_lead(assignment: Any) -> bool:
    role = assignment.get("role") if isinstance(assignment, dict) else None
    return isinstance(role, dict) and role.get("role_type") == "lead" and bool(assignment.get("assignee"))


def _part(whole: Any, name: str) -> Row:
    part = whole.get(name) if isinstance(whole, dict) else None
    if not isinstance(part, dict):
        raise ValueError(f"no {name}")  # noqa: TRY004 -- what Call.parse raises
    return part


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _duration(seconds: float) -> str:
    minutes = max(0, int(seconds // 60))
    if minutes < 120:  # noqa: PLR2004 -- two hours
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"  # noqa: PLR2004 -- two days
