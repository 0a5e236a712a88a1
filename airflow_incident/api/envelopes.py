"""What answers wrap their objects in, one class per answer."""

from __future__ import annotations

from pydantic import Field

from airflow_incident.api.answer import ResponseModel
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


class Page(ResponseModel):
    """Where a list goes on."""

    after: str | None = None
    page_size: int | None = None
    total_record_count: int | None = None


class IncidentAnswer(ResponseModel):
    """One incident."""

    incident: Incident


class IncidentsAnswer(ResponseModel):
    """One page of incidents."""

    incidents: tuple[Incident, ...]
    pagination_meta: Page = Field(default_factory=Page)


class IncidentUpdatesAnswer(ResponseModel):
    """One page of updates."""

    incident_updates: tuple[IncidentUpdate, ...]
    pagination_meta: Page = Field(default_factory=Page)


class AttachmentAnswer(ResponseModel):
    """One attachment."""

    incident_attachment: Attachment


class AttachmentsAnswer(ResponseModel):
    """All attachments asked for."""

    incident_attachments: tuple[Attachment, ...]


class IdentityAnswer(ResponseModel):
    """Who the API key is."""

    identity: Identity


class SeverityAnswer(ResponseModel):
    """One severity."""

    severity: Severity


class SeveritiesAnswer(ResponseModel):
    """All severities."""

    severities: tuple[Severity, ...]


class IncidentTypeAnswer(ResponseModel):
    """One incident type."""

    incident_type: IncidentType


class IncidentTypesAnswer(ResponseModel):
    """All incident types."""

    incident_types: tuple[IncidentType, ...]


class IncidentStatusAnswer(ResponseModel):
    """One status."""

    incident_status: IncidentStatus


class IncidentStatusesAnswer(ResponseModel):
    """All statuses."""

    incident_statuses: tuple[IncidentStatus, ...]


class CustomFieldAnswer(ResponseModel):
    """One custom field."""

    custom_field: CustomField


class CustomFieldsAnswer(ResponseModel):
    """All custom fields."""

    custom_fields: tuple[CustomField, ...]


class CustomFieldOptionsAnswer(ResponseModel):
    """One page of a custom field's options."""

    custom_field_options: tuple[CustomFieldOption, ...]
    pagination_meta: Page = Field(default_factory=Page)


class IncidentRoleAnswer(ResponseModel):
    """One role."""

    incident_role: IncidentRole


class IncidentRolesAnswer(ResponseModel):
    """All roles."""

    incident_roles: tuple[IncidentRole, ...]


class IncidentTimestampsAnswer(ResponseModel):
    """All timestamps that the account records."""

    incident_timestamps: tuple[IncidentTimestamp, ...]


class UsersAnswer(ResponseModel):
    """One page of people."""

    users: tuple[Member, ...]
    pagination_meta: Page = Field(default_factory=Page)


class AlertEventReceipt(ResponseModel):
    """That an alert source has got an event; it works on it later."""

    status: str | None = None
    message: str | None = None
    deduplication_key: str | None = None
