"""incident.io's objects. Answers: unknown properties ignored, enums open. Requests: unknown properties refused.

https://docs.incident.io/api-reference/incidents-v1/create
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 -- pydantic resolves it when a model is built
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)


class _Answer(BaseModel):
    """Something incident.io says. Only what nothing works without is required."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _forgive(cls, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """Take an optional field of an unknown shape as unset: an incident that was opened must not be lost for it."""
        try:
            return read(value)
        except ValidationError:
            field = cls.model_fields[info.field_name or ""]
            if field.is_required():
                raise
            return field.get_default(call_default_factory=True, validated_data={})


class _Request(BaseModel):
    """Something we say. Unset fields are left out: null is never valid."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class APIKeyActor(_Answer):
    """The API key that did something."""

    id: str | None = None
    name: str | None = None


class User(_Answer):
    """A person in incident.io."""

    id: str | None = None
    name: str | None = None
    email: str | None = None
    role: str | None = None
    slack_user_id: str | None = None


class Actor(_Answer):
    """Who did something: a key or a person."""

    api_key: APIKeyActor | None = None
    user: User | None = None


class Severity(_Answer):
    """How bad an incident is; a lower rank is less severe."""

    id: str
    name: str | None = None
    description: str | None = None
    rank: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class IncidentType(_Answer):
    """A kind of incident, with rules of its own."""

    id: str
    name: str | None = None
    description: str | None = None
    is_default: bool | None = None
    private_incidents_only: bool | None = None
    create_in_triage: str | None = None
    owning_team_ids: tuple[str, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None


class CustomFieldOption(_Answer):
    """One choice of a select field."""

    id: str | None = None
    custom_field_id: str | None = None
    value: str | None = None
    sort_key: int | None = None


class CustomFieldInfo(_Answer):
    """A custom field and, for selects, its choices."""

    id: str
    name: str | None = None
    description: str | None = None
    field_type: str | None = None
    options: tuple[CustomFieldOption, ...] = ()


class CatalogEntry(_Answer):
    """An entry of the catalog."""

    id: str | None = None
    name: str | None = None
    external_id: str | None = None
    aliases: tuple[str, ...] = ()


class CustomFieldValue(_Answer):
    """One value of a custom field; which property is set depends on the field's type."""

    value_catalog_entry: CatalogEntry | None = None
    value_link: str | None = None
    value_numeric: str | None = None
    value_option: CustomFieldOption | None = None
    value_text: str | None = None


class CustomFieldEntry(_Answer):
    """A custom field of an incident with its values."""

    custom_field: CustomFieldInfo | None = None
    values: tuple[CustomFieldValue, ...] = ()


class IncidentRole(_Answer):
    """A role that people take in an incident."""

    id: str
    name: str | None = None
    description: str | None = None
    instructions: str | None = None
    shortform: str | None = None
    role_type: str | None = None
    required: bool | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class RoleAssignment(_Answer):
    """Who has a role; nobody, if `assignee` is unset."""

    role: IncidentRole | None = None
    assignee: User | None = None


class IncidentTimestamp(_Answer):
    """A named moment of an incident's life."""

    name: str | None = None
    last_occurred_at: datetime | None = None


class Incident(_Answer):
    """An incident as v1 shows it."""

    id: str
    reference: str | None = None
    name: str | None = None
    status: str | None = None
    mode: str | None = None
    visibility: str | None = None
    summary: str | None = None
    permalink: str | None = None
    call_url: str | None = None
    postmortem_document_url: str | None = None
    slack_channel_id: str | None = None
    slack_channel_name: str | None = None
    slack_team_id: str | None = None
    severity: Severity | None = None
    incident_type: IncidentType | None = None
    creator: Actor | None = None
    custom_field_entries: tuple[CustomFieldEntry, ...] = ()
    incident_role_assignments: tuple[RoleAssignment, ...] = ()
    timestamps: tuple[IncidentTimestamp, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether a person has closed or declined it."""
        return self.status in {"closed", "declined"}


class IncidentAnswer(_Answer):
    """The envelope of one incident."""

    incident: Incident


class Page(_Answer):
    """Where a list goes on."""

    after: str | None = None
    page_size: int | None = None
    total_record_count: int | None = None


class IncidentsAnswer(_Answer):
    """One page of incidents."""

    incidents: tuple[Incident, ...]
    pagination_meta: Page = Field(default_factory=Page)


class Team(_Answer):
    """A team that a key belongs to."""

    id: str | None = None
    name: str | None = None


class Identity(_Answer):
    """Who an API key is and what it may do."""

    name: str | None = None
    roles: tuple[str, ...] = ()
    team_roles: tuple[str, ...] = ()
    teams: tuple[Team, ...] = ()
    dashboard_url: str | None = None


class IdentityAnswer(_Answer):
    """The envelope of an identity."""

    identity: Identity


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
