"""incident.io's objects, as it shows them: unknown properties ignored, enums open.

https://docs.incident.io/api-reference/incidents-v1/show
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 -- pydantic resolves it when a model is built

from pydantic import Field

from airflow_incident.api.answer import Answer
from airflow_incident.api.head import OVER


class APIKeyActor(Answer):
    """The API key that did something."""

    id: str | None = None
    name: str | None = None


class User(Answer):
    """A person in incident.io."""

    id: str | None = None
    name: str | None = None
    email: str | None = None
    role: str | None = None
    slack_user_id: str | None = None


class Actor(Answer):
    """Who did something: a key or a person."""

    api_key: APIKeyActor | None = None
    user: User | None = None


class Severity(Answer):
    """How bad an incident is; a lower rank is less severe."""

    id: str
    name: str | None = None
    description: str | None = None
    rank: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class IncidentType(Answer):
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


class CustomFieldOption(Answer):
    """One choice of a select field."""

    id: str | None = None
    custom_field_id: str | None = None
    value: str | None = None
    sort_key: int | None = None


class CustomFieldInfo(Answer):
    """A custom field and, for selects, its choices."""

    id: str
    name: str | None = None
    description: str | None = None
    field_type: str | None = None
    options: tuple[CustomFieldOption, ...] = ()


class CatalogEntry(Answer):
    """An entry of the catalog."""

    id: str | None = None
    name: str | None = None
    external_id: str | None = None
    aliases: tuple[str, ...] = ()


class CustomFieldValue(Answer):
    """One value of a custom field; which property is set depends on the field's type."""

    value_catalog_entry: CatalogEntry | None = None
    value_link: str | None = None
    value_numeric: str | None = None
    value_option: CustomFieldOption | None = None
    value_text: str | None = None


class CustomFieldEntry(Answer):
    """A custom field of an incident with its values."""

    custom_field: CustomFieldInfo | None = None
    values: tuple[CustomFieldValue, ...] = ()


class IncidentRole(Answer):
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


class RoleAssignment(Answer):
    """Who has a role; nobody, if `assignee` is unset."""

    role: IncidentRole | None = None
    assignee: User | None = None


class IncidentTimestamp(Answer):
    """A named moment of an incident's life."""

    name: str | None = None
    last_occurred_at: datetime | None = None


class Incident(Answer):
    """An incident as v1 shows it."""

    id: str
    reference: str | None = None
    name: str | None = None
    status: str | None = None
    permalink: str | None = None
    mode: str | None = None
    visibility: str | None = None
    summary: str | None = None
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
        return self.status in OVER


class IncidentAnswer(Answer):
    """The envelope of one incident."""

    incident: Incident


class Page(Answer):
    """Where a list goes on."""

    after: str | None = None
    page_size: int | None = None
    total_record_count: int | None = None


class IncidentsAnswer(Answer):
    """One page of incidents."""

    incidents: tuple[Incident, ...]
    pagination_meta: Page = Field(default_factory=Page)


class Team(Answer):
    """A team that a key belongs to."""

    id: str | None = None
    name: str | None = None


class Identity(Answer):
    """Who an API key is and what it may do."""

    name: str | None = None
    roles: tuple[str, ...] = ()
    team_roles: tuple[str, ...] = ()
    teams: tuple[Team, ...] = ()
    dashboard_url: str | None = None


class IdentityAnswer(Answer):
    """The envelope of an identity."""

    identity: Identity
