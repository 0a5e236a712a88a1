"""The bodies of requests: what we say. Unknown properties are refused.

https://docs.incident.io/api-reference/incidents-v1/create
https://docs.incident.io/api-reference/incidents-v2/create
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from airflow_incident.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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


class _Creation(_Request):
    """What both versions call by the same name."""

    idempotency_key: str = Field(min_length=1)
    visibility: str = "public"
    name: str | None = None
    summary: str | None = None
    severity_id: str | None = None
    incident_type_id: str | None = None
    mode: str | None = None
    custom_field_entries: tuple[CustomFieldEntryPayload, ...] | None = None
    slack_team_id: str | None = None


class CreateIncident(_Creation):
    """The body that opens an incident."""

    status: str | None = None
    incident_role_assignments: tuple[RoleAssignmentPayload, ...] | None = None
    source_message_channel_id: str | None = None
    source_message_timestamp: str | None = None


class RoleAssignmentPayloadV2(_Request):
    """Who shall have a role; nobody, if `assignee` is left out."""

    incident_role_id: str
    assignee: UserReference | None = None


class TimestampValuePayload(_Request):
    """When a timestamp of the account was reached; left out, it is cleared."""

    incident_timestamp_id: str
    value: AwareDatetime | None = None


class RetrospectiveOptions(_Request):
    """What an incident that is closed already may bring with it; only for the mode `retrospective`."""

    external_id: int | None = None
    postmortem_document_url: str | None = None
    slack_channel_id: str | None = None


class CreateIncidentV2(_Creation):
    """The body that opens an incident through v2; its mode is standard, retrospective, test or tutorial."""

    incident_status_id: str | None = None
    incident_role_assignments: tuple[RoleAssignmentPayloadV2, ...] | None = None
    incident_timestamp_values: tuple[TimestampValuePayload, ...] | None = None
    retrospective_incident_options: RetrospectiveOptions | None = None
    slack_channel_name_override: str | None = None


class EditIncident(_Request):
    """What shall change about an incident; what is left out stays as it is.

    https://docs.incident.io/api-reference/incidents-v2/edit
    """

    name: str | None = None
    summary: str | None = None
    severity_id: str | None = None
    incident_status_id: str | None = None
    call_url: str | None = None
    custom_field_entries: tuple[CustomFieldEntryPayload, ...] | None = None
    incident_role_assignments: tuple[RoleAssignmentPayloadV2, ...] | None = None
    incident_timestamp_values: tuple[TimestampValuePayload, ...] | None = None
    slack_channel_name_override: str | None = None


class ResourcePayload(_Request):
    """A thing in another system; an `arbitrary_url` has a URL and may have a title and an emoji.

    https://docs.incident.io/api-reference/incident-attachments-v1/create
    """

    resource_type: str
    external_id: str | None = None
    url: str | None = None
    title: str | None = None
    emoji: str | None = None


class IncidentFields(TypedDict, total=False):
    """What may be said of an incident that is to be opened, with names where the bodies above have IDs."""

    name: str | None
    summary: str | None
    severity: str | None
    incident_type: str | None
    status: str | None
    mode: str | None
    visibility: str | None
    custom_fields: Mapping[str, Any] | None
    roles: Mapping[str, Any] | None
    slack_team_id: str | None
    source_message_channel_id: str | None
    source_message_timestamp: str | None
    slack_channel_name_override: str | None
    incident_timestamp_values: Sequence[Mapping[str, Any]] | None
    retrospective_incident_options: Mapping[str, Any] | None


class AlertEvent(_Request):
    """What is sent to an alert source; the same deduplication key means the same alert.

    https://docs.incident.io/api-reference/alert-events-v2/create-http
    """

    title: str
    status: Literal["firing", "resolved"]
    deduplication_key: str | None = None
    description: str | None = None
    source_url: str | None = None
    metadata: dict[str, Any] | None = None


R = TypeVar("R", bound=_Request)


def checked(model: type[R], given: R | Mapping[str, Any]) -> dict[str, Any]:
    """Check a body and put it into JSON's words, without what is unset.

    :raises ConfigurationError: naming every field that cannot be used, without its value.
    """
    try:
        body = given if isinstance(given, model) else model.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise ConfigurationError(
            Problem(".".join(map(str, detail["loc"])) or "The body", detail["msg"]) for detail in details
        ) from None
    plain: dict[str, Any] = _without_null(body.model_dump(mode="json", exclude_none=True))
    return plain


def _without_null(value: Any) -> Any:
    """Leave null out also where anything may stand, like metadata."""
    if isinstance(value, dict):
        return {name: _without_null(child) for name, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_without_null(child) for child in value if child is not None]
    return value
