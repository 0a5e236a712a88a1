"""From what people write to the body of a create: friendly shapes in, the official body out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from airflow_incident.api.body import CreateIncident, CustomFieldValuePayload
from airflow_incident.errors import ConfigurationError, Problem

_SLACK_ID = re.compile(r"[UW][A-Z0-9]{7,}")
_LABELS = {
    "custom_field_entries": "Custom fields",
    "incident_role_assignments": "Roles",
    "incident_type_id": "Incident type",
    "severity_id": "Severity",
    "slack_team_id": "Slack team ID",
}


def create_payload(
    *,
    idempotency_key: str,
    severity: str | None = None,
    incident_type: str | None = None,
    custom_fields: Mapping[str, Any] | None = None,
    roles: Mapping[str, Any] | None = None,
    **others: Any,
) -> CreateIncident:
    """Build the body of a create; fields that are None are left out.

    :param others: Fields of the body under their own names, like `name`, `summary` and `status`.
    :raises ConfigurationError: naming every field that cannot be used.
    """
    problems: list[Problem] = []
    entries = list(_entries(custom_fields or {}, problems))
    assignments = list(_assignments(roles or {}, problems))
    body = {
        "idempotency_key": idempotency_key,
        "severity_id": severity,
        "incident_type_id": incident_type,
        "custom_field_entries": entries or None,
        "incident_role_assignments": assignments or None,
        **{name: value for name, value in others.items() if value is not None},
    }
    try:
        payload = CreateIncident.model_validate(body)
    except ValidationError as error:
        problems += (_problem(detail) for detail in error.errors(include_url=False, include_input=False))
    if problems:
        raise ConfigurationError(problems)
    return payload


def _entries(fields: Mapping[str, Any], problems: list[Problem]) -> Iterator[dict[str, Any]]:
    """Read `{field: value}`, where a value is a mapping like {"value_text": "x"} or a list of such."""
    kinds = ", ".join(CustomFieldValuePayload.model_fields)
    for name, given in fields.items():
        values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        if all(isinstance(value, Mapping) for value in values):
            yield {"custom_field_id": name, "values": [dict(value) for value in values]}
        else:
            problems.append(Problem("Custom fields", f"{name!r} needs {{kind: value}} with one of: {kinds}"))


def _assignments(roles: Mapping[str, Any], problems: list[Problem]) -> Iterator[dict[str, Any]]:
    """Read `{role: person}`, where a person is an email address, a Slack ID, an ID, or a mapping."""
    for role, person in roles.items():
        if isinstance(person, Mapping):
            yield {"incident_role_id": role, "assignee": dict(person)}
        elif isinstance(person, str) and person.strip():
            yield {"incident_role_id": role, "assignee": {_kind_of_person(person): person.strip()}}
        else:
            problems.append(Problem("Roles", f"{role!r} needs a person: an email address, a Slack ID or an ID"))


def _kind_of_person(text: str) -> str:
    if "@" in text:
        return "email"
    return "slack_user_id" if _SLACK_ID.fullmatch(text.strip()) else "id"


def _problem(detail: Any) -> Problem:
    """Put pydantic's finding into words, without the value: it may be a secret."""
    top, *rest = (str(part) for part in detail["loc"])
    where = _LABELS.get(top, top.replace("_", " ").capitalize())
    return Problem(where, f"{'.'.join(rest)}: {detail['msg']}" if rest else str(detail["msg"]))
