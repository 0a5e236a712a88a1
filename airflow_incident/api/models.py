"""incident.io's objects, as it shows them in v1 and v2 alike: unknown properties ignored, enums open.

https://docs.incident.io/api-reference/incidents-v1/show
https://docs.incident.io/api-reference/incidents-v2/show
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 -- pydantic resolves it when a model is built
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from airflow_incident.api.incident import CLOSED


class ResponseModel(BaseModel):
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


class _Named(ResponseModel):
    id: str | None = None
    name: str | None = None


class _Setting(ResponseModel):
    """What an account has set up."""

    id: str
    name: str | None = None
    description: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class APIKeyActor(_Named):
    """The API key that did something."""


class User(_Named):
    """A person in incident.io."""

    email: str | None = None
    role: str | None = None
    slack_user_id: str | None = None


class Permissions(_Named):
    """A set of permissions that people have."""

    slug: str | None = None
    description: str | None = None


class Seats(ResponseModel):
    """Which parts of incident.io a person may use."""

    on_call: str | None = None
    response: str | None = None


class Member(User):
    """A person as the list of users shows them."""

    id: str
    is_active: bool | None = None
    base_role: Permissions | None = None
    custom_roles: tuple[Permissions, ...] = ()
    seats: Seats | None = None


class AlertActor(ResponseModel):
    """The alert that did something."""

    id: str | None = None
    title: str | None = None


class WorkflowActor(_Named):
    """The workflow that did something."""


class Actor(ResponseModel):
    """Who did something: one of a key, a person, an alert and a workflow."""

    api_key: APIKeyActor | None = None
    user: User | None = None
    alert: AlertActor | None = None
    workflow: WorkflowActor | None = None


class Severity(_Setting):
    """How bad an incident is; a lower rank is less severe."""

    rank: int | None = None


class IncidentStatus(_Setting):
    """A status of the account; its category is what it means."""

    category: str | None = None
    rank: int | None = None


class IncidentType(_Setting):
    """A kind of incident, with rules of its own."""

    is_default: bool | None = None
    private_incidents_only: bool | None = None
    create_in_triage: str | None = None
    owning_team_ids: tuple[str, ...] = ()


class CustomFieldOption(ResponseModel):
    """One choice of a select field."""

    id: str | None = None
    custom_field_id: str | None = None
    value: str | None = None
    sort_key: int | None = None


class OptionsFilter(ResponseModel):
    """Which other field limits the choices of a field that shows the catalog."""

    catalog_attribute_id: str | None = None
    custom_field_id: str | None = None


class FixedFilter(ResponseModel):
    """Which entries of the catalog a field shows."""

    catalog_attribute_id: str | None = None
    values: tuple[str, ...] = ()


class CustomField(_Setting):
    """A custom field of the account; with a catalog type its choices are the entries of the catalog."""

    field_type: str | None = None
    catalog_type_id: str | None = None
    filter_by: OptionsFilter | None = None
    fixed_filter: FixedFilter | None = None
    group_by_catalog_attribute_id: str | None = None
    helptext_catalog_attribute_id: str | None = None


class CustomFieldInfo(ResponseModel):
    """A custom field as an incident shows it and, for selects, its choices."""

    id: str
    name: str | None = None
    description: str | None = None
    field_type: str | None = None
    options: tuple[CustomFieldOption, ...] = ()


class CatalogEntry(_Named):
    """An entry of the catalog."""

    external_id: str | None = None
    aliases: tuple[str, ...] = ()


class CustomFieldValue(ResponseModel):
    """One value of a custom field; which property is set depends on the field's type."""

    value_catalog_entry: CatalogEntry | None = None
    value_link: str | None = None
    value_numeric: str | None = None
    value_option: CustomFieldOption | None = None
    value_text: str | None = None


class CustomFieldEntry(ResponseModel):
    """A custom field of an incident with its values."""

    custom_field: CustomFieldInfo | None = None
    values: tuple[CustomFieldValue, ...] = ()


class IncidentRole(_Setting):
    """A role that people take in an incident."""

    instructions: str | None = None
    shortform: str | None = None
    role_type: str | None = None
    required: bool | None = None


class RoleAssignment(ResponseModel):
    """Who has a role; nobody, if `assignee` is unset."""

    role: IncidentRole | None = None
    assignee: User | None = None


class TimestampOccurrence(ResponseModel):
    """A named moment of an incident's life, as v1 shows it."""

    name: str | None = None
    last_occurred_at: datetime | None = None


class IncidentTimestamp(ResponseModel):
    """A kind of moment that the account records."""

    id: str
    name: str | None = None
    rank: int | None = None


class Moment(ResponseModel):
    """When something happened."""

    value: datetime | None = None


class TimestampValue(ResponseModel):
    """A moment of an incident's life, as v2 shows it; not reached yet, if `value` is unset."""

    incident_timestamp: IncidentTimestamp | None = None
    value: Moment | None = None


class DurationMetric(_Named):
    """A span between two timestamps that the account measures."""


class DurationValue(ResponseModel):
    """How long such a span was in an incident, in seconds."""

    duration_metric: DurationMetric | None = None
    status: str | None = None
    value_seconds: int | None = None


class ExternalIssue(ResponseModel):
    """The ticket elsewhere that follows an incident."""

    provider: str | None = None
    issue_name: str | None = None
    issue_permalink: str | None = None


class Incident(ResponseModel):
    """An incident. v1 tells its `status` in a word of its own, v2 the account's `incident_status` with its category."""

    id: str
    reference: str | None = None
    name: str | None = None
    status: str | None = None
    permalink: str | None = None
    incident_status: IncidentStatus | None = None
    mode: str | None = None
    visibility: str | None = None
    summary: str | None = None
    call_url: str | None = None
    postmortem_document_url: str | None = None
    postmortem_document_ids: tuple[str, ...] = ()
    slack_channel_id: str | None = None
    slack_channel_name: str | None = None
    slack_team_id: str | None = None
    severity: Severity | None = None
    incident_type: IncidentType | None = None
    creator: Actor | None = None
    custom_field_entries: tuple[CustomFieldEntry, ...] = ()
    incident_role_assignments: tuple[RoleAssignment, ...] = ()
    timestamps: tuple[TimestampOccurrence, ...] = ()
    incident_timestamp_values: tuple[TimestampValue, ...] = ()
    duration_metrics: tuple[DurationValue, ...] = ()
    external_issue_reference: ExternalIssue | None = None
    has_debrief: bool | None = None
    workload_minutes_late: float | None = None
    workload_minutes_sleeping: float | None = None
    workload_minutes_total: float | None = None
    workload_minutes_working: float | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def is_closed(self) -> bool:
        """Whether nobody works on it any more: closed, declined, canceled or merged."""
        category = self.incident_status.category if self.incident_status else None
        return (category or self.status) in CLOSED


class IncidentUpdate(ResponseModel):
    """What was said about an incident at one time, and what changed with it."""

    id: str
    incident_id: str | None = None
    message: str | None = None
    merged_into_incident_id: str | None = None
    new_incident_status: IncidentStatus | None = None
    new_severity: Severity | None = None
    updater: Actor | None = None
    created_at: datetime | None = None


class ExternalResource(ResponseModel):
    """A thing in another system that belongs to an incident."""

    resource_type: str | None = None
    external_id: str | None = None
    permalink: str | None = None
    title: str | None = None


class Attachment(ResponseModel):
    """What ties such a thing to an incident."""

    id: str
    incident_id: str | None = None
    resource: ExternalResource | None = None


class AlertEventReceipt(ResponseModel):
    """That an alert source has got an event; it works on it later."""

    status: str | None = None
    message: str | None = None
    deduplication_key: str | None = None


class Team(_Named):
    """A team that a key belongs to."""


class Identity(ResponseModel):
    """Who an API key is and what it may do."""

    name: str | None = None
    roles: tuple[str, ...] = ()
    team_roles: tuple[str, ...] = ()
    teams: tuple[Team, ...] = ()
    dashboard_url: str | None = None
