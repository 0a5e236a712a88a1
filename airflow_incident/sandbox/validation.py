"""What a create must look like. Collects every problem at once, and the properties that are ignored.

https://docs.incident.io/api-reference/incidents-v1/create
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from . import attachments, catalogue
from .refusals import JsonObject, invalid, problem

VISIBILITIES = ("public", "private")
MODES = ("real", "test")
STATUSES = ("triage", "investigating", "fixing", "monitoring", "closed", "declined")

# Property -> "string", "array", or the values of an enum.
CREATE: dict[str, str | tuple[str, ...]] = {
    "idempotency_key": "string",
    "visibility": VISIBILITIES,
    "custom_field_entries": "array",
    "incident_role_assignments": "array",
    "incident_type_id": "string",
    "mode": MODES,
    "name": "string",
    "severity_id": "string",
    "slack_team_id": "string",
    "source_message_channel_id": "string",
    "source_message_timestamp": "string",
    "status": STATUSES,
    "summary": "string",
}
CREATE_REQUIRED = ("idempotency_key", "visibility")
VALUE = dict.fromkeys(
    (
        "id",
        "value_catalog_entry_id",
        "value_link",
        "value_numeric",
        "value_option_id",
        "value_text",
        "value_timestamp",
    ),
    "string",
)
ASSIGNEE = dict.fromkeys(("id", "email", "slack_user_id"), "string")

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_LINK = re.compile(r"https?://\S+")

Path = tuple[str | int, ...]


def parse(raw: bytes) -> JsonObject:
    """Read a JSON object, or refuse."""

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        body = json.loads(raw.decode(), parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise invalid([problem("invalid_json", f"The body is not valid JSON: {error}")]) from None
    if not isinstance(body, dict):
        raise invalid([problem("invalid_type", "The body must be a JSON object")])
    return body


class Check:
    """One look at one create request."""

    def __init__(self, body: JsonObject) -> None:
        self.body = body
        self.errors: list[JsonObject] = []
        self.unknown: list[str] = []

    def run(self) -> list[str]:
        """Return the unknown properties' paths, or refuse with every problem found."""
        self._nulls(self.body, ())
        if not self.errors:
            self._shape(self.body, (), CREATE, CREATE_REQUIRED)
            self._entries()
            self._assignments()
        if not self.errors:
            self._references()
        if self.errors:
            raise invalid(self.errors)
        return self.unknown

    def run_attachment(self) -> list[str]:
        """Do the same for a create of an attachment."""
        self._nulls(self.body, ())
        self._shape(self.body, (), attachments.CREATE, tuple(attachments.CREATE))
        if "resource" in self.body:
            self._shape(self.body["resource"], ("resource",), attachments.RESOURCE, ("resource_type",))
        if self.errors:
            raise invalid(self.errors)
        return self.unknown

    def _add(self, code: str, message: str, path: Path) -> None:
        self.errors.append(problem(code, message, *path))

    def _nulls(self, value: Any, path: Path) -> None:
        if value is None:
            self._add("invalid_value", "null is never valid: leave an unset field out", path)
        for key, child in _children(value):
            self._nulls(child, (*path, key))

    def _shape(self, body: Any, path: Path, known: dict[str, Any], required: tuple[str, ...] = ()) -> None:
        if not isinstance(body, dict):
            self._add("invalid_type", "must be an object", path)
            return
        for name in required:
            if name not in body or body[name] == "":
                self._add("is_required", f"{name} is required", (*path, name))
        for name, value in body.items():
            here = (*path, name)
            if name not in known:
                self.unknown.append("".join(f"/{part}" for part in here))
            else:
                self._kind(value, known[name], here)

    def _kind(self, value: Any, kind: str | tuple[str, ...], path: Path) -> None:
        if kind == "array":
            if not isinstance(value, list):
                self._add("invalid_type", "must be a list", path)
        elif kind == "object":
            if not isinstance(value, dict):
                self._add("invalid_type", "must be an object", path)
        elif not isinstance(value, str):
            self._add("invalid_type", "must be a string", path)
        elif isinstance(kind, tuple) and value not in kind:
            self._add("invalid_value", f"must be one of {', '.join(kind)}", path)

    def _each(self, name: str) -> Iterator[tuple[Path, Any]]:
        rows = self.body.get(name, [])
        if isinstance(rows, list):
            for place, row in enumerate(rows):
                yield (name, place), row

    def _entries(self) -> None:
        known = {"custom_field_id": "string", "values": "array"}
        for path, entry in self._each("custom_field_entries"):
            self._shape(entry, path, known, tuple(known))
            values = entry.get("values") if isinstance(entry, dict) else None
            for place, value in enumerate(values if isinstance(values, list) else []):
                self._shape(value, (*path, "values", place), VALUE)

    def _assignments(self) -> None:
        known = {"incident_role_id": "string", "assignee": "object"}
        for path, assignment in self._each("incident_role_assignments"):
            self._shape(assignment, path, known, tuple(known))
            if isinstance(assignment, dict) and isinstance(assignment.get("assignee"), dict):
                self._shape(assignment["assignee"], (*path, "assignee"), ASSIGNEE)

    def _references(self) -> None:
        """Look up what the request refers to; its shape is known to be right."""
        severity = self.body.get("severity_id")
        if severity is not None and catalogue.by_id(catalogue.SEVERITIES, severity) is None:
            self._add("not_found", "there is no such severity", ("severity_id",))
        self._incident_type()
        for path, entry in self._each("custom_field_entries"):
            field = catalogue.by_id(catalogue.CUSTOM_FIELDS, entry["custom_field_id"])
            if field is None:
                self._add("not_found", "there is no such custom field", (*path, "custom_field_id"))
            else:
                self._values(field, entry["values"], (*path, "values"))
        for path, assignment in self._each("incident_role_assignments"):
            if catalogue.by_id(catalogue.ROLES, assignment["incident_role_id"]) is None:
                self._add("not_found", "there is no such role", (*path, "incident_role_id"))
            if catalogue.find_user(assignment["assignee"]) is None:
                self._add("not_found", "there is no such user", (*path, "assignee"))

    def _incident_type(self) -> None:
        wanted = self.body.get("incident_type_id")
        if wanted is None:
            return
        found = catalogue.by_id(catalogue.INCIDENT_TYPES, wanted)
        if found is None:
            self._add("not_found", "there is no such incident type", ("incident_type_id",))
        elif found["private_incidents_only"] and self.body["visibility"] != "private":
            self._add("invalid_value", f"{found['name']} incidents must be private", ("visibility",))

    def _values(self, field: JsonObject, values: list[JsonObject], path: Path) -> None:
        if field["field_type"] != "multi_select" and len(values) > 1:
            self._add("invalid_value", f"{field['name']} takes one value", path)
        expected = value_kind(field)
        for place, value in enumerate(values):
            given = sorted(name for name in value if name.startswith("value_") and name in VALUE)
            if given != [expected]:
                told = ", ".join(given) or "none"
                self._add("invalid_value", f"{field['name']} takes {expected}, got {told}", (*path, place))
            elif not _fits(field, expected, value[expected]):
                self._add("invalid_value", f"not a value of {field['name']}", (*path, place, expected))


def value_kind(field: JsonObject) -> str:
    """Return the property that carries this custom field's value in a request."""
    if field["field_type"] in ("single_select", "multi_select"):
        return "value_option_id" if field["options"] else "value_catalog_entry_id"
    return f"value_{field['field_type']}"


def _fits(field: JsonObject, kind: str, value: str) -> bool:
    if kind == "value_option_id":
        return catalogue.by_id(field["options"], value) is not None
    if kind == "value_catalog_entry_id":
        return catalogue.find_entry(value) is not None
    pattern = {"value_numeric": _NUMBER, "value_link": _LINK}.get(kind)
    return pattern is None or pattern.fullmatch(value) is not None


def _children(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)
