"""Names to IDs, and values to the API's words: what people write in a DAG file. No I/O and no model enters.

Names are looked up once per kind and process.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow_incident.api import endpoints
from airflow_incident.api.calls import Call, PaginatedCall
from airflow_incident.api.incident import V1_LIVE, read_page
from airflow_incident.api.payload import LookupResult, refusal
from airflow_incident.api.values import assignee, is_id, listed, plain_value, ready_value, text
from airflow_incident.errors import IncidentIoError, Problem, UnknownName

if TYPE_CHECKING:
    from airflow_incident.api.calls import ApiVersion, Directory, Row, Rows

T = TypeVar("T")
Steps = Generator[Call[Any] | PaginatedCall[Any], Any, T]

V1_STATUSES = ("triage", *V1_LIVE, "closed", "declined")
"""The statuses that v1 has words for. https://docs.incident.io/api-reference/incidents-v1/create"""
_OWN_CATEGORY = ("triage", "closed", "declined")
"""Those of them that are also a category; the others are all live."""
_LONGEST_NAME = 100
_MOST_LISTED = 20


class _Kind(NamedTuple):
    """A list in which names are looked up.

    `label` is the form's word for the option, `what` the word for one of the list, `call` asks for all its rows, read
    without a model, and `named` is the property that holds a name; `of` is the custom field whose options these are.
    """

    key: str
    label: str
    what: str
    call: Any
    named: str = "name"
    of: str = ""


def _kind(label: str, what: str, call: Call[Any]) -> _Kind:
    key = call.path.rpartition("/")[2]
    return _Kind(key, label, what, call._replace(parse=lambda content: _read_rows(key, content)[0]))


_SEVERITIES = _kind("Severity", "severity", endpoints.list_severities())
_TYPES = _kind("Incident type", "incident type", endpoints.list_incident_types())
_STATUSES = _kind("Status", "status", endpoints.list_incident_statuses())
LIST_STATUS_ROWS: Call[Rows] = _STATUSES.call
"""Lists the statuses of incidents as the answer has them."""
_ROLES = _kind("Roles", "role", endpoints.list_incident_roles())
_FIELDS = _kind("Custom fields", "custom field", endpoints.list_custom_fields())


def _options(row: Row) -> _Kind:
    page: Callable[[str | None], Call[Any]] = endpoints.list_custom_field_options(row["id"]).page
    read = partial(_read_rows, "custom_field_options")
    call = PaginatedCall(lambda after: page(after)._replace(parse=read))
    return _Kind(f"options/{row['id']}", "Custom fields", "option", call, "value", of=str(row.get("name") or row["id"]))


def lookup_ids(
    wanted: Mapping[str, Any], directory: Directory, *, api_version: ApiVersion, trust_ids: bool = True
) -> Steps[LookupResult]:
    """Find the IDs of what is wanted, by name or ID; to be used within a sequence.

    :param wanted: Any of `severity`, `incident_type`, `status`, `custom_fields` and `roles`.
    :param trust_ids: Whether what looks like an ID is taken as one, without looking.
    """
    search = _Search(directory, trust_ids=trust_ids)
    given = {name: value for name, value in wanted.items() if value not in (None, "", {})}
    found: dict[str, Any] = {}
    if "severity" in given:
        found["severity_id"] = yield from search.id_of(_SEVERITIES, given["severity"])
    if "incident_type" in given:
        found["incident_type_id"] = yield from search.incident_type(given["incident_type"])
    if "status" in given and api_version == "v1":
        found["status"] = yield from search.v1_status(given["status"])
    elif "status" in given:
        found["incident_status_id"] = yield from search.v2_status(given["status"])
    if "custom_fields" in given:
        found["custom_field_entries"] = yield from search.custom_fields(given["custom_fields"])
    if "roles" in given:
        found["incident_role_assignments"] = yield from search.roles(given["roles"])
    search.result.fields = {name: value for name, value in found.items() if value}
    return search.result


def lowest_severity(directory: Directory) -> Steps[str | None]:
    """Find the ID of the least severe severity, for accounts that demand one; none if there is none.

    :raises IncidentIoError: if the severities cannot be looked up.
    """
    rows = directory.rows(_SEVERITIES.key)
    if rows is None:
        rows = directory.keep(_SEVERITIES.key, (yield _SEVERITIES.call))
    return min(rows, key=rank)["id"] if rows else None


def find_severity(wanted: str, directory: Directory) -> Steps[Row]:
    """Find a severity, with its rank.

    :raises UnknownNameError: if there is none of this name or ID.
    :raises IncidentIoError: if the severities cannot be looked up.
    """
    search = _Search(directory)
    row = yield from search.row(_SEVERITIES, wanted)
    if row is None:
        raise next(iter(search.result.missing.values()), None) or refusal(search.result.problems)
    return row


class _Search:
    """One look-up under way."""

    def __init__(self, directory: Directory, *, trust_ids: bool = True) -> None:
        self.result = LookupResult()
        self._trust_ids = trust_ids
        self._directory = directory
        self._outage: IncidentIoError | None = None

    def incident_type(self, wanted: Any) -> Steps[str | None]:
        """Find an incident type, and note what it demands."""
        found = yield from self.id_of(_TYPES, wanted)
        known = self._directory.rows(_TYPES.key) or ()
        self.result.private_only = any(row["id"] == found and row.get("private_incidents_only") for row in known)
        return found

    def v1_status(self, wanted: Any) -> Steps[str | None]:
        """Find v1's word for a status."""
        word = _word(wanted)
        if word in V1_STATUSES:
            return word
        row = yield from self.row(_STATUSES, wanted)
        if row is None:
            return None
        for said in (str(row.get("name")).lower(), row.get("category")):
            if said in V1_STATUSES:
                return said
        self._problem(_STATUSES, f"{_cut(wanted)!r} cannot be said in v1; use one of: {', '.join(V1_STATUSES)}")
        return None

    def v2_status(self, wanted: Any) -> Steps[str | None]:
        """Find a status; a word of v1 that is no name stands for the first one of its category."""
        word = _word(wanted)
        if word in V1_STATUSES:
            rows = (yield from self._rows(_STATUSES)) or ()
            category = word if word in _OWN_CATEGORY else "live"
            alike = [row for row in rows if row.get("category") == category]
            if alike and not _match(_STATUSES, rows, word):
                return str(min(alike, key=rank)["id"])
        return (yield from self.id_of(_STATUSES, wanted))

    def custom_fields(self, wanted: Any) -> Steps[list[dict[str, Any]]]:
        """Find custom fields, and read the values by the fields' types."""
        entries: dict[str, list[dict[str, str]]] = {}
        for name, value in self._pairs(_FIELDS, wanted):
            values = listed(value)
            if self._trust_ids and is_id(name) and all(isinstance(one, Mapping) for one in values):
                row: Row | None = {"id": name}
            else:
                row = yield from self.row(_FIELDS, name)
            if row is None or self._is_twice(_FIELDS, name, row["id"], entries):
                continue
            try:
                read = yield from self._values(row, values)
            except ValueError as error:
                self._problem(_FIELDS, f"{_cut(name)!r} {error}")
            else:
                if read is not None:
                    entries[row["id"]] = read
        return [{"custom_field_id": found, "values": values} for found, values in entries.items()]

    def _values(self, row: Row, values: Sequence[Any]) -> Steps[list[dict[str, str]] | None]:
        kind = row.get("field_type")
        if len(values) > 1 and kind in {"single_select", "text", "link", "numeric"}:
            raise ValueError("takes one value only")
        read: list[dict[str, str]] = []
        for value in values:
            if isinstance(value, Mapping):
                read.append(ready_value(value))
            elif kind not in {"single_select", "multi_select"}:
                read.append(plain_value(kind, value))
            elif row.get("catalog_type_id"):
                read.append({"value_catalog_entry_id": text(value)})
            else:
                option = yield from self.id_of(_options(row), text(value))
                if option is None:
                    return None
                read.append({"value_option_id": option})
        return read

    def roles(self, wanted: Any) -> Steps[list[dict[str, Any]]]:
        """Find roles, and read the people who shall have them."""
        people: dict[str, dict[str, str]] = {}
        for name, person in self._pairs(_ROLES, wanted):
            try:
                who = assignee(person)
            except ValueError as error:
                self._problem(_ROLES, f"{_cut(name)!r} {error}")
                continue
            role = yield from self.id_of(_ROLES, name)
            if role and not self._is_twice(_ROLES, name, role, people):
                people[role] = who
        return [{"incident_role_id": role, "assignee": who} for role, who in people.items()]

    def id_of(self, kind: _Kind, wanted: Any) -> Steps[str | None]:
        """Find an ID; what is one already is not looked up, if such are to be trusted."""
        if self._trust_ids and isinstance(wanted, str) and is_id(wanted.strip()):
            return wanted.strip()
        row = yield from self.row(kind, wanted)
        return None if row is None else str(row["id"])

    def row(self, kind: _Kind, wanted: Any) -> Steps[Row | None]:
        """Find one of a list, by ID or name; note why, if there is none."""
        if not isinstance(wanted, str):
            self._problem(kind, "must be a name or an ID")
            return None
        rows = yield from self._rows(kind)
        if rows is None:
            return None
        found = _match(kind, rows, wanted)
        if not found and self._directory.is_stale(kind.key):
            rows = yield from self._rows(kind, again=True)
            if rows is None:
                return None
            found = _match(kind, rows, wanted)
        if len(found) == 1:
            return found[0]
        if found:
            alike = ", ".join(f"{row.get(kind.named)} ({row['id']})" for row in found[:_MOST_LISTED])
            of = f"{kind.of!r} has several options like" if kind.of else "several are called"
            self._problem(kind, f"{of} {_cut(wanted)!r}; use the ID of one: {alike}")
        else:
            names = tuple(str(row.get(kind.named) or row["id"]) for row in rows)
            self.result.problems.append(UnknownName.among(kind.label, kind.what, _cut(wanted), names, of=kind.of))
        return None

    def _rows(self, kind: _Kind, *, again: bool = False) -> Steps[Rows | None]:
        rows = self._directory.rows(kind.key)
        if rows is not None and not again:
            return rows
        where = f"{kind.label} ({kind.of})" if kind.of else kind.label
        if self._outage:
            # The time is better spent on the incident itself: what did not answer once will not answer next.
            self.result.missing.setdefault(where, self._outage)
            return None
        try:
            rows = yield kind.call
        except IncidentIoError as error:
            self.result.missing.setdefault(where, error)
            self._outage = error if error.retryable else None
            return None
        return self._directory.keep(kind.key, rows)

    def _pairs(self, kind: _Kind, wanted: Any) -> list[tuple[str, Any]]:
        if not isinstance(wanted, Mapping):
            self._problem(kind, "must be a mapping of names or IDs")
            return []
        return [(str(name).strip(), value) for name, value in wanted.items()]

    def _is_twice(self, kind: _Kind, name: str, found: str, before: Mapping[str, Any]) -> bool:
        if found in before:
            self._problem(kind, f"{_cut(name)!r} is given twice, by name and by ID or in two spellings")
        return found in before

    def _problem(self, kind: _Kind, what: str) -> None:
        self.result.problems.append(Problem(kind.label, what))


def _word(wanted: Any) -> str:
    return wanted.strip().lower() if isinstance(wanted, str) else ""


def _match(kind: _Kind, rows: Rows, wanted: str) -> list[Row]:
    """Return what a text may mean: one by its ID, else all of that very name, else all of it but for case."""
    wanted = wanted.strip()
    rules: tuple[Callable[[Row], bool], ...] = (
        lambda row: row["id"] == wanted,
        lambda row: row.get(kind.named) == wanted,
        lambda row: str(row.get(kind.named)).strip().casefold() == wanted.casefold(),
    )
    return next(filter(None, ([row for row in rows if rule(row)] for rule in rules)), [])


def rank(row: Row) -> float:
    """Return where one stands in its list; last, if nobody says."""
    rank = row.get("rank")
    return rank if isinstance(rank, int | float) else float("inf")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"


def _read_rows(name: str, content: bytes) -> tuple[list[Row], str | None]:
    rows, after = read_page(content, name)
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)], after
