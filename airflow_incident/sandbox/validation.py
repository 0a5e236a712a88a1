"""What a create or an edit of an incident must look like, and what it may refer to.

https://docs.incident.io/api-reference/incidents-v1/create
https://docs.incident.io/api-reference/incidents-v2/create
https://docs.incident.io/api-reference/incidents-v2/edit
"""

import re
from collections.abc import Iterator
from typing import Any

from .catalogue import Catalogue, by_id
from .refusals import JsonObject
from .shape import Known, Path, Shape

VISIBILITIES = ("public", "private")
STATUSES = ("triage", "investigating", "fixing", "monitoring", "closed", "declined")
MODES = ("standard", "retrospective", "test", "tutorial")

_STRING, _ARRAY = "string", "array"
SHARED: dict[str, str | tuple[str, ...]] = {
    "custom_field_entries": _ARRAY,
    "incident_role_assignments": _ARRAY,
    "name": _STRING,
    "severity_id": _STRING,
    "summary": _STRING,
}
_CREATE = SHARED | {
    "idempotency_key": _STRING,
    "visibility": VISIBILITIES,
    "incident_type_id": _STRING,
    "slack_team_id": _STRING,
}
_SECOND = {
    "incident_status_id": _STRING,
    "incident_timestamp_values": _ARRAY,
    "slack_channel_name_override": _STRING,
}
CREATE_FIRST: Known = _CREATE | {
    "mode": ("real", "test"),
    "source_message_channel_id": _STRING,
    "source_message_timestamp": _STRING,
    "status": STATUSES,
}
CREATE_SECOND: Known = _CREATE | _SECOND | {"mode": MODES, "retrospective_incident_options": "object"}
CREATE_REQUIRED = ("idempotency_key", "visibility")
EDIT: Known = SHARED | _SECOND | {"call_url": _STRING}
EDIT_AROUND: Known = {"incident": "object", "notify_incident_channel": "boolean"}
RETROSPECTIVE: Known = {
    "external_id": "integer",
    "postmortem_document_url": _STRING,
    "slack_channel_id": _STRING,
}
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
    _STRING,
)
ASSIGNEE = dict.fromkeys(("id", "email", "slack_user_id"), _STRING)

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_LINK = re.compile(r"https?://\S+")


def check_create(body: JsonObject, known: Catalogue, allowed: Known, *, severity: bool) -> list[str]:
    """Return the unknown properties of a create, or refuse with every problem found."""
    shape = Shape()
    shape.nulls(body)
    if not shape.errors:
        demanded = ("severity_id",) if severity else ()
        shape.object(body, (), allowed, (*CREATE_REQUIRED, *demanded))
        _Fields(shape, body, (), known, assignee=allowed is CREATE_FIRST).check()
    return shape.done()


def check_edit(body: JsonObject, known: Catalogue) -> list[str]:
    """Return the unknown properties of an edit, or refuse with every problem found."""
    shape = Shape()
    shape.nulls(body)
    if not shape.errors:
        shape.object(body, (), EDIT_AROUND, tuple(EDIT_AROUND))
        inner = body.get("incident")
        if isinstance(inner, dict):
            shape.object(inner, ("incident",), EDIT)
            _Fields(shape, inner, ("incident",), known, assignee=False).check()
    return shape.done()


class _Fields:
    """The fields of one incident in a request: their form first, then what they refer to."""

    def __init__(self, shape: Shape, body: JsonObject, path: Path, known: Catalogue, *, assignee: bool) -> None:
        self.shape = shape
        self.body = body
        self.path = path
        self.known = known
        self.assignment = ("incident_role_id", "assignee") if assignee else ("incident_role_id",)

    def check(self) -> None:
        """Look at the form, and, where it is right, at the references."""
        self._entries()
        self._assignments()
        self._stamps()
        if "retrospective_incident_options" in self.body:
            self._retrospective(self.body["retrospective_incident_options"])
        if not self.shape.errors:
            self._references()

    def _each(self, name: str) -> Iterator[tuple[Path, Any]]:
        rows = self.body.get(name, [])
        if isinstance(rows, list):
            for place, row in enumerate(rows):
                yield (*self.path, name, place), row

    def _entries(self) -> None:
        known = {"custom_field_id": "string", "values": "array"}
        for path, entry in self._each("custom_field_entries"):
            self.shape.object(entry, path, known, tuple(known))
            values = entry.get("values") if isinstance(entry, dict) else None
            for place, value in enumerate(values if isinstance(values, list) else []):
                self.shape.object(value, (*path, "values", place), VALUE)

    def _assignments(self) -> None:
        known = {"incident_role_id": "string", "assignee": "object"}
        for path, assignment in self._each("incident_role_assignments"):
            self.shape.object(assignment, path, known, self.assignment)
            if isinstance(assignment, dict) and isinstance(assignment.get("assignee"), dict):
                self.shape.object(assignment["assignee"], (*path, "assignee"), ASSIGNEE)

    def _stamps(self) -> None:
        known = {"incident_timestamp_id": "string", "value": "date-time"}
        for path, stamp in self._each("incident_timestamp_values"):
            self.shape.object(stamp, path, known, ("incident_timestamp_id",))

    def _retrospective(self, options: Any) -> None:
        path = (*self.path, "retrospective_incident_options")
        self.shape.object(options, path, RETROSPECTIVE)
        if self.body.get("mode") != "retrospective":
            self.shape.add("invalid_value", "only a retrospective incident takes them", path)
        number = options.get("external_id", 1) if isinstance(options, dict) else 1
        if isinstance(number, int) and not 1 <= number < 10**9:
            self.shape.add("invalid_value", "must be a number from 1", (*path, "external_id"))

    def _references(self) -> None:
        """Look up what the request refers to; its shape is known to be right."""
        known = self.known
        self._known("severity_id", known.severities, "severity")
        self._known("incident_status_id", known.statuses, "status")
        self._known("incident_type_id", known.incident_types, "incident type")
        self._private_type()
        for path, stamp in self._each("incident_timestamp_values"):
            if by_id(known.timestamps, stamp["incident_timestamp_id"]) is None:
                self.shape.add("not_found", "there is no such timestamp", (*path, "incident_timestamp_id"))
        for path, entry in self._each("custom_field_entries"):
            field = by_id(known.custom_fields, entry["custom_field_id"])
            if field is None:
                self.shape.add("not_found", "there is no such custom field", (*path, "custom_field_id"))
            else:
                self._values(field, entry["values"], (*path, "values"))
        for path, assignment in self._each("incident_role_assignments"):
            self._assignment(assignment, path)

    def _known(self, name: str, rows: list[JsonObject], told: str) -> None:
        if name in self.body and by_id(rows, self.body[name]) is None:
            self.shape.add("not_found", f"there is no such {told}", (*self.path, name))

    def _private_type(self) -> None:
        found = by_id(self.known.incident_types, self.body.get("incident_type_id", ""))
        if found and found["private_incidents_only"] and self.body["visibility"] != "private":
            self.shape.add("invalid_value", f"{found['name']} incidents must be private", (*self.path, "visibility"))

    def _assignment(self, assignment: JsonObject, path: Path) -> None:
        if by_id(self.known.roles, assignment["incident_role_id"]) is None:
            self.shape.add("not_found", "there is no such role", (*path, "incident_role_id"))
        if "assignee" not in assignment:
            return
        user = self.known.find_user(assignment["assignee"])
        if user is None:
            self.shape.add("not_found", "there is no such user", (*path, "assignee"))
        elif not user.get("is_active", True):
            self.shape.add("invalid_value", f"{user['name']} is no longer active", (*path, "assignee"))

    def _values(self, field: JsonObject, values: list[JsonObject], path: Path) -> None:
        if field["field_type"] != "multi_select" and len(values) > 1:
            self.shape.add("invalid_value", f"{field['name']} takes one value", path)
        expected = value_kind(field)
        for place, value in enumerate(values):
            given = sorted(name for name in value if name.startswith("value_") and name in VALUE)
            if given != [expected]:
                told = ", ".join(given) or "none"
                self.shape.add("invalid_value", f"{field['name']} takes {expected}, got {told}", (*path, place))
            elif not self._fits(field, expected, value[expected]):
                self.shape.add("invalid_value", f"not a value of {field['name']}", (*path, place, expected))

    def _fits(self, field: JsonObject, kind: str, value: str) -> bool:
        if kind == "value_option_id":
            return by_id(field["options"], value) is not None
        if kind == "value_catalog_entry_id":
            return self.known.find_entry(value) is not None
        pattern = {"value_numeric": _NUMBER, "value_link": _LINK}.get(kind)
        return pattern is None or pattern.fullmatch(value) is not None


def value_kind(field: JsonObject) -> str:
    """Return the property that carries this custom field's value in a request."""
    if field["field_type"] in ("single_select", "multi_select"):
        return "value_option_id" if field["options"] else "value_catalog_entry_id"
    return f"value_{field['field_type']}"
