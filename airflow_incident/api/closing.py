"""How an incident stands, and the way from there to closed: the calls that a recovery makes.

Plain JSON, no model: what is looked at is little, and what is unknown in it counts as unset.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from airflow_incident.api.calls import PAGE_LIMIT, Call, CallSequence
from airflow_incident.api.endpoints import attach_link
from airflow_incident.api.waiting import Standing, read_standing, show_standing
from airflow_incident.errors import ConfigurationError, IncidentIoError, PermissionDeniedError, Problem
from airflow_incident.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

_VIEWER, _EDITOR, _OPT_OUT = "viewer", "incident editor", "post-incident flow opt-out"
_POST_INCIDENT = re.compile(r"post.?incident", re.IGNORECASE)


class Status(Frozen):
    """A status that incidents of the account may be in."""

    id: str
    name: str
    category: str
    rank: float


class CloseOptions(Frozen):
    """How an incident is to be closed.

    `title` and `url` are the link to attach, if there is an address. `always` closes also what a person has claimed.
    `status` is the name or the ID of the status to move to. `has_link` says that the link is there already. `began` is
    the category that the incident was opened in, `was_assigned` whether it was opened with people in its roles.
    """

    title: str
    url: str | None = None
    always: bool = False
    status: str | None = None
    has_link: bool = False
    began: str = "triage"
    was_assigned: bool = False

    def is_claimed(self, standing: Standing) -> bool:
        """Return whether a person has claimed it: it has left the status that it began in, or somebody leads it."""
        return not self.always and ((standing.has_lead and not self.was_assigned) or standing.category != self.began)


class CloseResult(Frozen):
    """What became of an incident that was to be closed.

    `closed` now, `already_closed` before, `claimed` by a person and so left open, or `failed`, which `error` explains.
    `has_link` says that the link is attached, `link_error` why it is not.
    """

    kind: Literal["closed", "already_closed", "claimed", "failed"]
    standing: Standing
    has_link: bool = False
    error: IncidentIoError | None = None
    link_error: IncidentIoError | None = None

    @property
    def words(self) -> str:
        """What became of it, for a log line."""
        name = f"{self.standing.reference or self.standing.id} {self.standing.permalink or ''}".rstrip()
        link = "it has the link" if self.has_link else "it has no link"
        words = {
            "closed": f"{name} is closed; {link}",
            "already_closed": f"{name} was closed before",
            "claimed": f"{name} stays open: a person has claimed it; {link}",
            "failed": f"{name} stays open: {self.error}",
        }
        return words[self.kind]


def list_statuses() -> Call[list[Status]]:
    """List the statuses of the account.

    https://docs.incident.io/api-reference/incident-statuses-v1/list
    """
    return Call(method="GET", path="/v1/incident_statuses", parse=_statuses, limit=PAGE_LIMIT)


def move_to(incident_id: str, status_id: str) -> Call[Standing]:
    """Move an incident to a status, and let its channel know.

    https://docs.incident.io/api-reference/incidents-v2/edit
    """
    body = {"incident": {"incident_status_id": status_id}, "notify_incident_channel": True}
    path = f"/v2/incidents/{quote(incident_id, safe='')}/actions/edit"
    return Call(method="POST", path=path, body=body, parse=read_standing)


def close_sequence(incident_id: str, options: CloseOptions) -> CallSequence[CloseResult]:
    """Plan all that closing an incident takes, as one call."""
    return CallSequence(lambda *_: close_steps(incident_id, options))


def close_steps(incident_id: str, options: CloseOptions) -> Generator[Any, Any, CloseResult]:
    """Close an incident unless it is over, or a person has claimed it. Yields calls.

    :raises IncidentIoError: if nobody can tell how the incident stands.
    """
    with _needs(_VIEWER):
        standing: Standing = yield show_standing(incident_id)
    if standing.is_over:
        return CloseResult("already_closed", standing, has_link=options.has_link)
    link_error = None if options.has_link else (yield from _attach(incident_id, options))
    has_link = options.has_link or (options.url is not None and link_error is None)
    if options.is_claimed(standing):
        return CloseResult("claimed", standing, has_link, link_error=link_error)
    try:
        with _needs(_VIEWER):
            statuses = yield list_statuses()
        status = closing_status(statuses, options.status)
        with _needs(_EDITOR):
            yield move_to(incident_id, status.id)
    except IncidentIoError as error:
        return CloseResult("failed", standing, has_link, error, link_error)
    return CloseResult("closed", standing, has_link, link_error=link_error)


def _attach(incident_id: str, options: CloseOptions) -> Generator[Any, Any, IncidentIoError | None]:
    """Attach the link; tell what kept it from being attached, for that stops nothing."""
    if options.url is None:
        return None
    try:
        with _needs(_EDITOR):
            yield attach_link(incident_id, url=options.url, title=options.title)
    except IncidentIoError as error:
        return error
    return None


@contextmanager
def _needs(role: str) -> Iterator[None]:
    """Let a refusal name the role that the API key lacks.

    https://docs.incident.io/api-reference/introduction
    """
    try:
        yield
    except PermissionDeniedError as error:
        lacking = _OPT_OUT if role == _EDITOR and _POST_INCIDENT.search(str(error)) else role
        error.hint = f"Give the API key the role {lacking!r}."
        raise


def closing_status(statuses: Sequence[Status], wanted: str | None) -> Status:
    """Choose the status to move to.

    :raises ConfigurationError: if there is none of that name, or several.
    """
    if wanted is None:
        found = sorted((s for s in statuses if s.category == "closed"), key=lambda s: s.rank)[:1]
    else:
        name = wanted.strip()
        exact = [s for s in statuses if name in {s.id, s.name}]
        found = exact or [s for s in statuses if s.name.casefold() == name.casefold()]
    if len(found) == 1:
        return found[0]
    known = ", ".join(s.name for s in sorted(statuses, key=lambda s: s.rank)) or "none"
    what = "is more than one status" if found else "is not a status of this account"
    told = "the account has no closed status" if wanted is None else f"{wanted!r} {what}"
    raise ConfigurationError([Problem("Resolved status", f"{told}; known: {known}")])


def _statuses(content: bytes) -> list[Status]:
    entries = _mapping(json.loads(content)).get("incident_statuses")
    if not isinstance(entries, list):
        raise ValueError("no statuses")  # noqa: TRY004 -- what a parser of an answer raises
    return [
        Status(entry["id"], str(entry.get("name") or ""), str(entry.get("category") or ""), _rank(entry.get("rank")))
        for entry in map(_mapping, entries)
        if isinstance(entry.get("id"), str)
    ]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rank(value: Any) -> float:
    return value if isinstance(value, int | float) else float("inf")
