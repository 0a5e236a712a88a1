"""Closing an incident, and waiting until incidents are closed: the calls that recovery and the sensor make.

They ask v2 alone: it knows what v1 opened, and v1 has no word for many categories.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_incident.api.calls import Call, CallSequence, PaginatedCall, pages, quoted
from airflow_incident.api.endpoints import attach_link, filter_query, show_incident_state
from airflow_incident.api.incident import (
    OPEN,
    IncidentState,
    incident_label,
    read_incident_state,
    read_incident_states,
)
from airflow_incident.api.names import LIST_STATUS_ROWS, find_severity, rank
from airflow_incident.errors import (
    ConfigurationError,
    IncidentIoError,
    NotFoundError,
    PermissionDeniedError,
    Problem,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from datetime import datetime

    from airflow_incident.api.calls import Directory, Row, Rows
    from airflow_incident.api.names import Steps

MODES = ("real", "test")
_ALL_MODES = ("standard", "retrospective", "test", "tutorial")
_MOST_SHOWN = 10
"""More incidents than these are not asked for one by one: one list of what is open answers for all."""
_MOST_NAMED = 10
_VIEWER, _EDITOR, _OPT_OUT = "viewer", "incident editor", "post-incident flow opt-out"
_POST_INCIDENT = re.compile(r"post.?incident", re.IGNORECASE)


class CloseOptions(NamedTuple):
    """How an incident is to be closed.

    `title` and `url` are the link to attach, if there is an address. `always` closes also what a person has claimed.
    `status` is the name or the ID of the status to move to; default: the account's first closed one. `has_link` says
    that the link is there already. `began` is the category that the incident was opened in, `was_assigned` whether it
    was opened with people in its roles.
    """

    title: str
    url: str | None = None
    always: bool = False
    status: str | None = None
    has_link: bool = False
    began: str = "triage"
    was_assigned: bool = False

    def is_claimed(self, state: IncidentState) -> bool:
        """Return whether a person has claimed it: it has left the status that it began in, or somebody leads it."""
        has_lead = state.has_lead and not self.was_assigned
        return not self.always and (has_lead or state.status_category != self.began)


class CloseResult(NamedTuple):
    """What became of an incident that was to be closed.

    `closed` now, `already_closed` before, `claimed` by a person and so left open, or `failed`, which `error` explains.
    `state` is how it stood before. `has_link` says that the link is attached, `link_error` why it is not.
    """

    kind: Literal["closed", "already_closed", "claimed", "failed"]
    state: IncidentState
    has_link: bool = False
    error: IncidentIoError | None = None
    link_error: IncidentIoError | None = None


def close_sequence(incident_id: str, options: CloseOptions) -> CallSequence[CloseResult]:
    """Build the calls that close an incident, unless it is closed already or a person has claimed it.

    They raise an IncidentIoError if nobody can tell how the incident stands.
    """
    return CallSequence(lambda *_: _close_steps(incident_id, options))


def _close_steps(incident_id: str, options: CloseOptions) -> Generator[Any, Any, CloseResult]:
    with _needs(_VIEWER):
        state: IncidentState = yield _show(incident_id)
    if state.is_closed:
        return CloseResult("already_closed", state, has_link=options.has_link)
    link_error = None if options.has_link else (yield from _attach(incident_id, options))
    has_link = options.has_link or (options.url is not None and link_error is None)
    if options.is_claimed(state):
        return CloseResult("claimed", state, has_link, link_error=link_error)
    try:
        with _needs(_VIEWER):
            statuses = yield LIST_STATUS_ROWS
        status = closing_status(statuses, options.status)
        with _needs(_EDITOR):
            yield _move(incident_id, status["id"])
    except IncidentIoError as error:
        return CloseResult("failed", state, has_link, error, link_error)
    return CloseResult("closed", state, has_link, link_error=link_error)


def _attach(incident_id: str, options: CloseOptions) -> Generator[Any, Any, IncidentIoError | None]:
    """Attach the link; return why it could not be attached, for that stops nothing."""
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
    """Let a refusal name the role that the API key lacks (https://docs.incident.io/api-reference/introduction)."""
    try:
        yield
    except PermissionDeniedError as error:
        lacking = _OPT_OUT if role == _EDITOR and _POST_INCIDENT.search(str(error)) else role
        error.advice = f"Give the API key the role {lacking!r}."
        raise


def closing_status(statuses: Rows, wanted: str | None) -> Row:
    """Choose the status to move to.

    :raises ConfigurationError: if there is none of that name, or several.
    """
    if wanted is None:
        found = sorted((row for row in statuses if row.get("category") == "closed"), key=rank)[:1]
    else:
        name = wanted.strip()
        exact = [row for row in statuses if name in {row["id"], row.get("name")}]
        found = exact or [row for row in statuses if _name(row).casefold() == name.casefold()]
    if len(found) == 1:
        return found[0]
    known = ", ".join(map(_name, sorted(statuses, key=rank))) or "none"
    trouble = "is more than one status" if found else "is not a status of this account"
    what = "the account has no closed status" if wanted is None else f"{wanted!r} {trouble}"
    raise ConfigurationError([Problem("Resolved status", f"{what}; known: {known}")])


def _name(row: Row) -> str:
    return str(row.get("name") or "")


class WaitCondition(NamedTuple):
    """What is waited for: that some incidents are closed, or all of a severity or above.

    An incident in its post-incident flow counts as closed here: the trouble is past. `mode` says which incidents of a
    severity count, `real` or `test`. `may_be_gone` says that an incident that no longer exists counts as closed.
    """

    incident_ids: Sequence[str] = ()
    severity: str | None = None
    mode: str = "real"
    may_be_gone: bool = False

    def still_open(self) -> CallSequence[list[IncidentState]]:
        """Build the calls that tell which incidents are still open."""
        return CallSequence(self._steps)

    def _steps(self, directory: Directory) -> Steps[list[IncidentState]]:
        if self.severity is not None:
            return (yield from _open_of_severity(self.severity, self.mode, directory))
        if len(self.incident_ids) > _MOST_SHOWN:
            states = yield _list_open(mode={"one_of": _ALL_MODES})
            return [state for state in states if state.is_open and state.id in self.incident_ids]
        found: list[IncidentState] = []
        for incident_id in self.incident_ids:
            try:
                found.append((yield _show(incident_id)))
            except NotFoundError:
                if not self.may_be_gone:
                    raise
        return [state for state in found if state.is_open]


def _open_of_severity(wanted: str, mode: str, directory: Directory) -> Steps[list[IncidentState]]:
    if mode not in MODES:
        raise ConfigurationError([Problem("Incident mode", f"{mode!r} is unknown; use one of: {', '.join(MODES)}")])
    # Also an ID is looked up: of one that is mistyped nothing is ever open.
    severity = yield from find_severity(wanted, directory)
    more = {"mode": {"one_of": ["test"]}} if mode == "test" else {}
    states = yield _list_open(severity={"gte": [severity["id"]]}, **more)
    return [state for state in states if state.is_open]


def status_message(waiting: Sequence[IncidentState], now: datetime) -> str:
    """Say what is waited for, in one line."""
    lines = [_status_of(state, now) for state in waiting[:_MOST_NAMED]]
    more = [f"and {len(waiting) - _MOST_NAMED} more"] if len(waiting) > _MOST_NAMED else []
    return f"incident.io: waiting: {'; '.join(lines + more)}"


def retry_message(error: IncidentIoError) -> str:
    """Say why it is not known how incidents stand, and that this ends nothing."""
    return f"incident.io: waiting on, though how incidents stand is not known now: {error} {error.advice}"


def _status_of(state: IncidentState, now: datetime) -> str:
    since = "" if state.created_at is None else f", open for {_duration((now - state.created_at).total_seconds())}"
    return f"{incident_label(state)} is {state.status or state.status_category} ({state.status_category}){since}"


def _duration(seconds: float) -> str:
    minutes = max(0, int(seconds // 60))
    if minutes < 120:  # noqa: PLR2004 -- two hours
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"  # noqa: PLR2004 -- two days


def _show(incident_id: str) -> Call[IncidentState]:
    return show_incident_state(incident_id)._replace(parse=_read_state)


def _list_open(**filters: Any) -> PaginatedCall[IncidentState]:
    """List incidents that are open (https://docs.incident.io/api-reference/incidents-v2/list)."""
    query = filter_query({"status_category": {"one_of": OPEN}, **filters})
    return pages("/v2/incidents", _read_states, query)


def _move(incident_id: str, status_id: str) -> Call[IncidentState]:
    """Move an incident to a status, and let its channel know.

    https://docs.incident.io/api-reference/incidents-v2/edit
    """
    body = {"incident": {"incident_status_id": status_id}, "notify_incident_channel": True}
    return Call("POST", f"/v2/incidents/{quoted(incident_id)}/actions/edit", _read_state, body=body)


def _read_state(content: bytes) -> IncidentState:
    return _with_category(read_incident_state(content))


def _read_states(content: bytes) -> tuple[Sequence[IncidentState], str | None]:
    states, after = read_incident_states(content)
    return list(map(_with_category, states)), after


def _with_category(state: IncidentState) -> IncidentState:
    """Refuse an incident of an unknown category: it cannot be said to be closed."""
    if state.status_category is None:
        raise ValueError("it does not say how the incident stands")
    return state
