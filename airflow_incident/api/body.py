"""The body that opens an incident: what we say. Unknown properties are refused.

https://docs.incident.io/api-reference/incidents-v1/create
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Request(BaseModel):
    """Something we say. Unset fields are left out: null is never valid."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class CustomFieldValuePayload(_Request):
    """One value to give a custom field: set the property that its type wants."""

    id: str | None = None
    value_catalog_entry_id: str | None = None
    value_link: str | None = None
    value_numeric: str | None = None
    value_option_id: str | None = None
    value_text: str | None = None
    value_timestamp: str | None = None


class CustomFieldEntryPayload(_Request):
    """The values to give one custom field; none clears it."""

    custom_field_id: str
    values: tuple[CustomFieldValuePayload, ...]


class UserReference(_Request):
    """A person, by one of three names."""

    id: str | None = None
    email: str | None = None
    slack_user_id: str | None = None


class RoleAssignmentPayload(_Request):
    """Who shall have a role."""

    incident_role_id: str
    assignee: UserReference


class CreateIncident(_Request):
    """The body that opens an incident."""

    idempotency_key: str = Field(min_length=1)
    visibility: str = "public"
    name: str | None = None
    summary: str | None = None
    severity_id: str | None = None
    incident_type_id: str | None = None
    mode: str | None = None
    status: str | None = None
    custom_field_entries: tuple[CustomFieldEntryPayload, ...] | None = None
    incident_role_assignments: tuple[RoleAssignmentPayload, ...] | None = None
    slack_team_id: str | None = None
    source_message_channel_id: str | None = None
    source_message_timestamp: str | None = None


class CreateIncidentV2(_Request):
    idempotency_key: str = Field(min_length=1)
    visibility: str = "public"
    name: str | None = None
    summary: str | None = None
    severity_id: str | None = None
    incident_type_id: str | None = None
    mode: str | None = None
    incident_status_id: str | None = None
    custom_field_entries: tuple[CustomFieldEntryPayload, ...] | None = None
    incident_role_assignments: tuple[RoleAssignmentPayload, ...] | None = None
    slack_team_id: str | None = None


class AlertEvent(_Request):
    title: str
    status: str
    deduplication_key: str | None = None
    description: str | None = None
    source_url: str | None = None
    metadata: dict | None = None
