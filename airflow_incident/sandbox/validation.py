"""What the body of a request must look like: one table per endpoint, and the one function that reads them.

https://docs.incident.io/api-reference/incidents-v1/create
https://docs.incident.io/api-reference/incidents-v2/create
https://docs.incident.io/api-reference/incidents-v2/edit
https://docs.incident.io/api-reference/incident-attachments-v1/create
https://docs.incident.io/api-reference/alert-events-v2/create-http
"""

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .catalogue import MODES, Catalogue, by_id
from .errors import JsonObject, invalid, problem

Path = tuple[str | int, ...]
# What a rule finds wrong: a code, a message, and where, seen from the object.
Findings = Iterator[tuple[str, str, Path]]

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_PATTERNS = {"value_numeric": re.compile(r"-?\d+(\.\d+)?"), "value_link": re.compile(r"https?://\S+")}
_TYPES = {
    str: "must be a string",
    list: "must be a list",
    dict: "must be an object",
    bool: "must be true or false",
    int: "must be a whole number",
}


def moment(text: str) -> dt.datetime | None:
    """Read a moment as RFC 3339 writes it."""
    try:
        return dt.datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
    except ValueError:
        return None


def _user_exists(assignee: JsonObject, known: Catalogue) -> Findings:
    user = known.find_user(assignee)
    if user is None:
        yield "not_found", "there is no such user", ()
    elif not user.get("is_active", True):
        yield "invalid_value", f"{user['name']} is no longer active", ()


def _values_suit_the_field(entry: JsonObject, known: Catalogue) -> Findings:
    field = next(row for row in known.custom_fields if row["id"] == entry["custom_field_id"])
    if field["field_type"] != "multi_select" and len(entry["values"]) > 1:
        yield "invalid_value", f"{field['name']} takes one value", ("values",)
    expected = f"value_{field['field_type']}"
    if field["field_type"].endswith("_select"):
        expected = "value_option_id" if field["options"] else "value_catalog_entry_id"
    for place, value in enumerate(entry["values"]):
        given = sorted(value.keys() & VALUE.optional.keys() - {"id"})
        if given != [expected]:
            message = f"{field['name']} takes {expected}, got {', '.join(given) or 'none'}"
            yield "invalid_value", message, ("values", place)
        elif not _fits(value[expected], expected, field, known):
            yield "invalid_value", f"not a value of {field['name']}", ("values", place, expected)


def _fits(value: str, kind: str, field: JsonObject, known: Catalogue) -> bool:
    if kind == "value_option_id":
        return by_id(field["options"], value) is not None
    if kind == "value_catalog_entry_id":
        return known.find_entry(value) is not None
    return kind not in _PATTERNS or _PATTERNS[kind].fullmatch(value) is not None


def _create_agrees(create: JsonObject, known: Catalogue) -> Findings:
    found = by_id(known.incident_types, create.get("incident_type_id", ""))
    if found and found["private_incidents_only"] and create["visibility"] != "private":
        yield "invalid_value", f"{found['name']} incidents must be private", ("visibility",)
    options = "retrospective_incident_options"
    if options in create and create.get("mode") != "retrospective":
        yield "invalid_value", "only a retrospective incident takes them", (options,)


def _link_has_an_address(resource: JsonObject, _known: Catalogue) -> Findings:
    if resource["resource_type"] == "arbitrary_url" and not resource.get("url"):
        yield "is_required", "url is required for an arbitrary_url", ("url",)


@dataclasses.dataclass(frozen=True)
class Schema:
    """An object of a request: properties that it needs, others that it may have, and a rule asked once all are right.

    A property is a type, the values it may have, a `Schema`, a list of one, `moment`, or the name of the catalogue's
    list in which its ID must be.
    """

    required: Mapping[str, Any]
    optional: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rule: Callable[[JsonObject, Catalogue], Findings] = lambda _value, _known: iter(())

    def requiring(self, name: str) -> "Schema":
        """Return the same schema with one property more that is required."""
        return dataclasses.replace(self, required={**self.required, name: self.optional[name]})


_KINDS = ("catalog_entry_id", "link", "numeric", "option_id", "text", "timestamp")
VALUE = Schema({}, {"id": str} | {f"value_{kind}": str for kind in _KINDS})
ENTRY = Schema({"custom_field_id": "custom_fields", "values": [VALUE]}, rule=_values_suit_the_field)
ASSIGNEE = Schema({}, {"id": str, "email": str, "slack_user_id": str}, _user_exists)
ASSIGNMENT = Schema({"incident_role_id": "roles"}, {"assignee": ASSIGNEE})
TIMESTAMP = Schema({"incident_timestamp_id": "timestamps"}, {"value": moment})
RETROSPECTIVE = Schema({}, {"external_id": range(1, 10**9), "postmortem_document_url": str, "slack_channel_id": str})
_FIELDS = {
    "custom_field_entries": [ENTRY],
    "incident_role_assignments": [ASSIGNMENT],
    "name": str,
    "severity_id": "severities",
    "summary": str,
}
_FIELDS_V2 = _FIELDS | {
    "incident_status_id": "statuses",
    "incident_timestamp_values": [TIMESTAMP],
    "slack_channel_name_override": str,
}
_REQUIRED = {"idempotency_key": str, "visibility": ("public", "private")}
_CREATE = {"incident_type_id": "incident_types", "slack_team_id": str}
_CREATE_V1 = {
    "incident_role_assignments": [ASSIGNMENT.requiring("assignee")],
    "mode": ("real", "test"),
    "source_message_channel_id": str,
    "source_message_timestamp": str,
    "status": ("triage", "investigating", "fixing", "monitoring", "closed", "declined"),
}
_CREATE_V2 = {"mode": MODES, "retrospective_incident_options": RETROSPECTIVE}
CREATE_V1 = Schema(_REQUIRED, _FIELDS | _CREATE | _CREATE_V1, _create_agrees)
CREATE_V2 = Schema(_REQUIRED, _FIELDS_V2 | _CREATE | _CREATE_V2, _create_agrees)
EDIT = Schema({"incident": Schema({}, _FIELDS_V2 | {"call_url": str}), "notify_incident_channel": bool})
ALERT_EVENT = Schema(
    {"title": str, "status": ("firing", "resolved"), "deduplication_key": str},
    {"description": str, "source_url": str, "metadata": dict},
)
RESOURCE_TYPES = (
    "pager_duty_incident",
    "opsgenie_alert",
    "datadog_monitor_alert",
    "github_pull_request",
    "gitlab_merge_request",
    "sentry_issue",
    "jira_issue",
    "jsm_alert",
    "atlassian_statuspage_incident",
    "zendesk_ticket",
    "google_calendar_event",
    "outlook_calendar_event",
    "slack_file",
    "salesforce_case",
    "arbitrary_url",
    "scrubbed",
    "statuspage_incident",
)
RESOURCE = Schema(
    {"resource_type": RESOURCE_TYPES},
    {"emoji": str, "external_id": str, "title": str, "url": str},
    _link_has_an_address,
)
ATTACHMENT = Schema({"incident_id": str, "resource": RESOURCE})


def parse(raw: bytes) -> JsonObject:
    """Read a JSON object, or refuse."""

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        body = json.loads(raw.decode(), parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise invalid(problem("invalid_json", f"The body is not valid JSON: {error}")) from None
    if not isinstance(body, dict):
        raise invalid(problem("invalid_type", "The body must be a JSON object"))
    return body


def check(body: JsonObject, schema: Schema, known: Catalogue) -> list[str]:
    """Return the pointers to what the API does not know, or refuse with every problem found."""
    checked = _Validation(known)
    checked.nulls(body, ())
    if not checked.errors:
        checked.object(body, schema, ())
    if checked.errors or checked.semantic_errors:
        raise invalid(*(checked.errors or checked.semantic_errors))
    return checked.unknown


class _Validation:
    """One reading of a request, which goes on after each problem."""

    def __init__(self, known: Catalogue) -> None:
        self.known = known
        # What has a wrong type or value; and, only where nothing has, what refers to nothing or breaks a rule.
        self.errors: list[JsonObject] = []
        self.semantic_errors: list[JsonObject] = []
        self.unknown: list[str] = []

    def nulls(self, value: Any, path: Path) -> None:
        """Note every null, also in what the API does not know: it takes none."""
        if value is None:
            self._add("invalid_value", "null is never valid: leave an unset field out", path)
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            self.nulls(child, (*path, key))

    def object(self, value: JsonObject, schema: Schema, path: Path) -> None:
        """Note what is missing, wrong or unknown in an object."""
        properties = {**schema.required, **schema.optional}
        before = len(self.errors) + len(self.semantic_errors)
        for name in schema.required:
            if value.get(name, "") == "":
                self._add("is_required", f"{name} is required", (*path, name))
        for name, child in value.items():
            here = (*path, name)
            if name not in properties:
                self.unknown.append("".join(f"/{part}" for part in here))
            elif name not in schema.required or child != "":
                self._property(child, properties[name], here)
        if len(self.errors) + len(self.semantic_errors) == before:
            found = schema.rule(value, self.known)
            self.semantic_errors += [problem(code, message, *path, *place) for code, message, place in found]

    def _property(self, value: Any, kind: Any, path: Path) -> None:
        wanted: Any = _json_type(kind)
        # A JSON boolean is no number, though it is one in Python.
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            self._add("invalid_type", _TYPES[wanted], path)
        elif isinstance(kind, Schema):
            self.object(value, kind, path)
        elif isinstance(kind, list):
            for place, row in enumerate(value):
                self._property(row, kind[0], (*path, place))
        elif isinstance(kind, str):
            if by_id(getattr(self.known, kind), value) is None:
                name = str(path[-1]).removesuffix("_id").replace("_", " ")
                self.semantic_errors.append(problem("not_found", f"there is no such {name}", *path))
        elif isinstance(kind, tuple | range):
            if value not in kind:
                expected = f"from {kind.start}" if isinstance(kind, range) else f"one of {', '.join(kind)}"
                self._add("invalid_value", f"must be {expected}", path)
        elif kind is moment and moment(value) is None:
            self._add("invalid_value", "must be a moment like 2026-01-05T09:00:00Z", path)

    def _add(self, code: str, message: str, path: Path) -> None:
        self.errors.append(problem(code, message, *path))


def _json_type(kind: Any) -> type:
    """Return the Python type of a property's JSON."""
    if isinstance(kind, type):
        return kind
    return {Schema: dict, list: list, range: int}.get(type(kind), str)
