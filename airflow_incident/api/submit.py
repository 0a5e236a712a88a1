"""How a draft becomes an incident: its names become IDs, a version of the API is chosen, refusals are answered.

Generators of calls, for a sequence or for whoever writes down what is about to be sent. No I/O and no clock enters.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_incident.api.calls import PAGE_LIMIT, PAGE_SIZE, Call, CallSequence, Directory, PreparedCreate
from airflow_incident.api.incident import PAST, IncidentState, read_incident_state, read_page, read_time
from airflow_incident.api.payload import NAMED, LookupResult, compose, is_alert, label, refusal, unsayable
from airflow_incident.core.text_edits import left_out
from airflow_incident.errors import (
    AmbiguousDeliveryError,
    APIError,
    IncidentIoError,
    NotFoundError,
    TransportError,
    ValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from datetime import datetime

    from airflow_incident.api.calls import ApiVersion
    from airflow_incident.api.payload import Draft

    Annotate = Callable[[str, Sequence[str]], str]

Choice = Literal["v1", "v2", "auto"]

NEVER_LEFT_OUT = frozenset({"idempotency_key", "deduplication_key", "visibility", "mode"})
"""Fields without which an incident or an alert would be another one, or be seen by others."""
MOST_ANSWERS = 4
"""Creates that are answered by another one: an account may tell what it refuses one by one, or be without v1."""
_MOST_DIGITS = 9
"""Digits of a place in a list that can be meant."""
MOST_SHARED = 3
"""Incidents of a DAG that are gone through, one after the other, before a run opens one with its own key."""
LOOK_UP_SHARE = 1 / 3
"""How much of the time that is left a look-up may take: the incident matters more than its details."""


class SubmitOptions(NamedTuple):
    """How a draft is to be sent.

    `strict` fails on what cannot be used instead of leaving it out. `annotate` adds notes to a summary. `unsettled`
    says that an earlier attempt may have taken effect; `since` is the day of the first one, like 2026-11-25. `read`
    reads the answer. `next_keys` are the keys to go on with, each with the moment before which the incident of the one
    before must have been past. Before these come the keys that a DAG's runs share: `key_after` makes the one after an
    incident of this ID. `v1_gone` says that this process knows of v1's end. `note` is shown each create that is sent.
    """

    choice: Choice
    annotate: Annotate
    strict: bool = False
    unsettled: bool = False
    since: str | None = None
    read: Callable[[bytes], Any] = read_incident_state
    next_keys: Sequence[tuple[str, datetime]] = ()
    key_after: Callable[[str], str] | None = None
    v1_gone: bool = False
    note: Callable[[PreparedCreate], object] | None = None


NOT_LOOKED_UP = "could not be looked up"
"""Says in a note that a name was left out which may be known at the next attempt."""


def prepared(draft: Draft, options: SubmitOptions, api_version: ApiVersion) -> Generator[Any, Any, PreparedCreate]:
    """Look up the IDs for a draft's names and build the body; a body of v1 is a draft, too.

    :raises ConfigurationError: with strict options, naming everything that cannot be used.
    :raises IncidentIoError: with strict options, if a name could not be looked up.
    """
    if is_alert(draft):
        return PreparedCreate(draft, "alert")
    wanted = {name: draft[name] for name in NAMED if name in draft}
    found = (yield from _looked_up(wanted, api_version)) if wanted else LookupResult()
    problems = [*unsayable(draft, api_version=api_version), *found.problems]
    if options.strict and problems:
        raise refusal(problems)
    if options.strict and found.missing:
        raise next(iter(found.missing.values()))
    lost = [f"{kind} {NOT_LOOKED_UP} ({error})" for kind, error in found.missing.items()]
    notes = tuple(f"Left out: {what}." for what in (*map(str, problems), *lost))
    labels = (*(problem.where for problem in problems), *found.missing)
    body = compose(draft, found.fields, api_version=api_version)
    if found.private_only:
        body["visibility"] = "private"
    body = _annotated(body, left_out(labels), options)
    return PreparedCreate(body, api_version, bool(found.missing), options.read, notes)


def _looked_up(wanted: Mapping[str, Any], api_version: ApiVersion) -> Generator[Any, Any, LookupResult]:
    """Look names up; IDs need no look-up, and no call."""
    from airflow_incident.api.names import lookup_ids

    try:
        next(lookup_ids(wanted, Directory(), api_version=api_version))
    except StopIteration as end:
        found: LookupResult = end.value
        return found
    found = yield CallSequence(partial(lookup_ids, wanted, api_version=api_version), LOOK_UP_SHARE)
    return found


def first_version(draft: Draft, choice: Choice) -> ApiVersion:
    """Choose the version for a draft that has none yet: v1 as long as it is served, where it can say all of it."""
    if choice != "auto":
        return choice
    return "v2" if unsayable(draft, api_version="v1") else "v1"


def at_once(draft: Draft, options: SubmitOptions) -> PreparedCreate | None:
    """Build the body of a draft whose names are IDs already; None if something must be looked up.

    :raises ConfigurationError: with strict options, naming everything that cannot be used.
    """
    try:
        next(prepared(draft, options, first_version(draft, options.choice)))
    except StopIteration as end:
        creation: PreparedCreate = end.value
        return creation
    return None


def submit(
    draft: Draft | None, options: SubmitOptions, *, creation: PreparedCreate | None = None
) -> Generator[Any, Any, Any]:
    """Open an incident. Yields calls, and each PreparedCreate just before it is to be sent, which is a call, too.

    :param creation: What was sent before for the same key; the same again, and in the same version.
    :raises IncidentIoError: if it could not be opened.
    """
    keys, shared = options.next_keys, MOST_SHARED if options.key_after else 0
    while True:
        creation, answer = yield from _accepted(draft, options, creation)
        if not keys or not (yield from _is_used_up(creation, answer, before=keys[0][1])):
            return answer
        if options.key_after and shared and answer.id:
            creation = creation.with_key(options.key_after(answer.id))
            shared -= 1
        else:
            creation = creation.with_key(keys[0][0])
            keys, shared = keys[1:], 0


def _accepted(
    draft: Draft | None, options: SubmitOptions, creation: PreparedCreate | None
) -> Generator[Any, Any, tuple[PreparedCreate, Any]]:
    """Send a create until it is accepted; return what was, and its answer."""
    if creation is None:
        draft = draft or {}
        creation = yield from prepared(draft, options, first_version(draft, options.choice))
    flickers = False
    for _ in range(MOST_ANSWERS):
        try:
            return creation, (yield from _asked(creation, options))
        except ValidationError as error:
            corrected = yield from _corrected(creation, error, options)
            if corrected is None:
                raise
            creation = corrected
        except APIError as error:
            if options.choice != "auto" or creation.endpoint != "v1" or not _is_gone(error):
                raise
            if not (yield CallSequence(is_v1_gone, LOOK_UP_SHARE)):
                if flickers:
                    raise
                flickers = True  # gone and there again from one request to the next: once more
                continue
            if options.unsettled or error.maybe_delivered:
                return creation, (yield from _find(creation, options, error))
            in_v2 = yield from prepared(creation.body, options, "v2")
            creation = in_v2._replace(partial=creation.partial)
    return creation, (yield creation)


def _asked(creation: PreparedCreate, options: SubmitOptions) -> Generator[Any, Any, Any]:
    """Send a create; v1 is not asked by a process that knows of its end, for what another one has begun with it."""
    if options.note:
        options.note(creation)
    if options.v1_gone and (options.choice, creation.endpoint) == ("auto", "v1"):
        raise NotFoundError(404)
    return (yield creation)


def submission(draft: Draft, options: SubmitOptions) -> CallSequence[Any]:
    """Build all the calls that opening an incident takes."""

    def steps(directory: Directory) -> Generator[Any, Any, Any]:
        choice: Choice = "v2" if options.choice == "auto" and directory.v1_gone else options.choice
        return submit(draft, options._replace(choice=choice))

    return CallSequence(steps)


def _is_used_up(creation: PreparedCreate, answer: Any, *, before: datetime) -> Generator[Any, Any, bool]:
    """Return whether a key was answered with an incident that was past before, and cannot stand for this failure."""
    if not isinstance(answer, IncidentState) or not answer.is_past:
        return False
    wanted = {creation.body.get("status"), creation.body.get("incident_status_id")} - {None}
    if wanted & {answer.status, answer.status_id}:  # it was to be opened so
        return False
    return (yield from was_past(answer, before=before))


def was_past(state: IncidentState, *, before: datetime) -> Generator[Any, Any, bool]:
    """Return whether an incident was past before a moment; then it cannot stand for what failed after it.

    Asks for its updates where its own dates do not tell. What cannot be told counts as no: an incident that may still
    stand for a failure is not doubled.
    """
    if not state.is_past or (state.created_at and state.created_at >= before):
        return False
    if state.updated_at and state.updated_at < before:
        return True
    if state.closed_at:
        return state.closed_at < before
    try:
        past_since: datetime | None = yield _past_since(state.id)
    except IncidentIoError:
        return False
    return past_since is not None and past_since < before


def _past_since(incident_id: str) -> Call[datetime | None]:
    """Ask since when an incident is past, as its updates tell.

    https://docs.incident.io/api-reference/incident-updates-v2/list
    """
    query: dict[str, str | int | Sequence[str]] = {"incident_id": incident_id, "page_size": PAGE_SIZE}
    return Call("GET", "/v2/incident_updates", _read_past_since, query, limit=PAGE_LIMIT)


def _read_past_since(content: bytes) -> datetime | None:
    """Read since when the latest updates all say that it is past."""
    rows, _ = read_page(content, "incident_updates")
    updates = [(read_time(row["created_at"]), row["new_incident_status"]["category"] in PAST) for row in rows]
    past_since: datetime | None = None
    for moment, is_past in sorted((moment, is_past) for moment, is_past in updates if moment)[::-1]:
        if not is_past:
            break
        past_since = moment
    return past_since


def _is_gone(error: IncidentIoError) -> bool:
    """Return whether an answer can mean that an address is no longer served: nothing in the request is to blame."""
    return (
        isinstance(error, APIError)
        and error.status in {404, 410}
        and not any(e.field or e.pointer for e in error.errors)
    )


def is_v1_gone(directory: Directory) -> Generator[Any, Any, bool]:
    """Ask once more, in a way that no field can be to blame; what is gone stays gone for this process."""
    from airflow_incident.api.endpoints import any_incident

    if not directory.v1_gone:
        try:
            yield any_incident()
        except TransportError as error:
            error.maybe_delivered = True  # for nobody knows what became of the request that made us ask
            raise
        except IncidentIoError as error:
            directory.v1_gone = _is_gone(error)
    return directory.v1_gone


def _find(creation: PreparedCreate, options: SubmitOptions, error: IncidentIoError) -> Generator[Any, Any, Any]:
    """Look for what an attempt through v1 may have opened; through v2 it might be opened twice."""
    from airflow_incident.api.endpoints import list_incident_states

    name, summary = creation.body.get("name"), creation.body.get("summary")
    if options.since and name and summary:
        try:
            states = yield list_incident_states(since=options.since, mode=creation.body.get("mode"))
        except IncidentIoError as trouble:
            if trouble.retryable:
                raise
            raise AmbiguousDeliveryError(f"{error}; nor can incidents be listed: {trouble}") from None
        for state in states:
            if (state.name, state.summary) == (name, summary):
                return state
    raise AmbiguousDeliveryError(str(error))


def _corrected(
    creation: PreparedCreate, error: ValidationError, options: SubmitOptions
) -> Generator[Any, Any, PreparedCreate | None]:
    """Answer a refusal: leave out what was refused, or give the severity that is demanded; None if that is no help.

    Strict options let only an incident become private that must be.
    """
    if error.already_open:
        return None
    body = dict(creation.body)
    short: list[str] = []
    notes: list[str] = []
    for place, (where, why) in _refused(error).items():
        if place == "visibility" and body.get("incident_type_id") and body["visibility"] == "public":
            body["visibility"] = "private"
        elif options.strict:
            return None
        elif place == "severity_id" and place not in body:
            if (lowest := (yield from _lowest())) is None:
                return None
            body[place] = lowest
            short.append("incident.io demands a severity, so this is the lowest.")
        elif place in body and place not in NEVER_LEFT_OUT:
            _leave_out(body, place, where)
            short += left_out([label(place)])
            notes.append(f"Left out: {label(place)}, which incident.io refused ({why}).")
        else:
            return None
    if body == dict(creation.body):
        return None
    return creation._replace(body=_annotated(body, short, options), notes=(*creation.notes, *notes))


def _lowest() -> Generator[Any, Any, str | None]:
    from airflow_incident.api.names import lowest_severity

    try:
        lowest: str | None = yield CallSequence(lowest_severity, LOOK_UP_SHARE)
    except IncidentIoError:
        return None
    return lowest


def _refused(error: ValidationError) -> dict[str, tuple[set[int], str]]:
    """Map the fields that a refusal names to the places in them, where they are lists, and its reasons."""
    named: dict[str, tuple[set[int], str]] = {}
    for entry in error.errors:
        place, *rest = entry.pointer.strip("/").split("/")
        where, _ = named.setdefault(place or entry.field.partition(".")[0], (set(), entry.message or entry.code))
        where.add(int(rest[0]) if rest and rest[0].isdecimal() and len(rest[0]) <= _MOST_DIGITS else -1)
    return named


def _leave_out(body: dict[str, Any], place: str, where: set[int]) -> None:
    """Leave out the entries of a list that were refused, else the whole field."""
    entries = body[place]
    if isinstance(entries, list) and all(0 <= index < len(entries) for index in where) and len(where) < len(entries):
        body[place] = [entry for index, entry in enumerate(entries) if index not in where]
    else:
        del body[place]


def _annotated(body: dict[str, Any], notes: Sequence[str], options: SubmitOptions) -> dict[str, Any]:
    if notes and "summary" in body:
        body["summary"] = options.annotate(body["summary"], notes)
    return body
