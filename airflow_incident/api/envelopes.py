"""What answers wrap their objects in, one class per answer."""

from __future__ import annotations

from pydantic import Field

from airflow_incident.api.answer import Answer
from airflow_incident.api.models import (  # noqa: TC001 -- pydantic resolves them when a model is built
    Attachment,
    CustomField,
    CustomFieldOption,
    Identity,
    Incident,
    IncidentRole,
    IncidentStatus,
    IncidentTimestamp,
    IncidentType,
    IncidentUpdate,
    Member,
    Severity,
)


class Page(Answer):
    """Where a list goes on."""

    after: str | None = None
    page_size: int | None = None
    total_record_count: int | None = None


class IncidentAnswer(Answer):
    """One incident."""

    incident: Incident


class IncidentsAnswer(Answer):
    """One page of incidents."""

    incidents: tuple[Incident, ...]
    pagination_meta: Page = Field(default_factory=Page)


class IncidentUpdatesAnswer(Answer):
    """One page of updates."""

    incident_updates: tuple[IncidentUpdate, ...]
    pagination_meta: Page = Field(default_factory=Page)


class AttachmentAnswer(Answer):
    """One attachment."""

    incident_attachment: Attachment


class AttachmentsAnswer(Answer):
    """All attachments asked for."""

    incident_attachments: tuple[Attachment, ...]


class IdentityAnswer(Answer):
    """Who the API key is."""

    identity: Identity


class SeverityAnswer(Answer):
    """One severity."""

    severity: Severity


class SeveritiesAnswer(Answer):
    """All severities."""

    severities: tuple[Severity, ...]


class IncidentTypeAnswer(Answer):
    """One incident type."""

    incident_type: IncidentType


class IncidentTypesAnswer(Answer):
    """All incident types."""

    incident_types: tuple[IncidentType, ...]


class IncidentStatusAnswer(Answer):
    """One status."""

    incident_status: IncidentStatus


class IncidentStatusesAnswer(Answer):
    """All statuses."""

    incident_statuses: tuple[IncidentStatus, ...]


class CustomFieldAnswer(Answer):
    """One custom field."""

    custom_field: CustomField


class CustomFieldsAnswer(Answer):
    """All custom fields."""

    custom_fields: tuple[CustomField, ...]


class CustomFieldOptionsAnswer(Answer):
    """One page of a custom field's options."""

    custom_field_options: tuple[CustomFieldOption, ...]
    pagination_meta: Page = Field(default_factory=Page)


class IncidentRoleAnswer(Answer):
    """One role."""

    incident_role: IncidentRole


class IncidentRolesAnswer(Answer):
    """All roles."""

    incident_roles: tuple[IncidentRole, ...]


class IncidentTimestampsAnswer(Answer):
    """All timestamps that the account records."""

    incident_timestamps: tuple[IncidentTimestamp, ...]


class UsersAnswer(Answer):
    """One page of people."""

    users: tuple[Member, ...]
    pagination_meta: Page = Field(default_factory=Page)


class AlertEventReceipt(Answer):
    """That an alert source has got an event; it works on it later."""

    status: str | None = None
    message: str | None = None
    deduplication_key: str | None = None
