"""The calls that read what an account has set up: its severities, types, statuses, fields, roles and people."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_incident.api.calls import PAGE_LIMIT, Call, PaginatedCall, pages
from airflow_incident.api.endpoints import Late

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_incident.api import envelopes
    from airflow_incident.api.models import (
        CustomField,
        CustomFieldOption,
        IncidentRole,
        IncidentStatus,
        IncidentTimestamp,
        IncidentType,
        Member,
        Severity,
    )
else:
    envelopes = Late("airflow_incident.api.envelopes")


def list_severities() -> Call[list[Severity]]:
    """List the severities; a lower rank is less severe.

    https://docs.incident.io/api-reference/severities-v1/list
    """

    def parse(said: bytes) -> list[Severity]:
        return list(envelopes.SeveritiesAnswer.model_validate_json(said).severities)

    return Call("GET", "/v1/severities", parse, limit=PAGE_LIMIT)


def show_severity(severity_id: str) -> Call[Severity]:
    """Show one severity, by its ID.

    https://docs.incident.io/api-reference/severities-v1/show
    """

    def parse(said: bytes) -> Severity:
        return envelopes.SeverityAnswer.model_validate_json(said).severity

    return Call("GET", f"/v1/severities/{quote(severity_id, safe='')}", parse)


def list_incident_types() -> Call[list[IncidentType]]:
    """List the incident types.

    https://docs.incident.io/api-reference/incident-types-v1/list
    """

    def parse(said: bytes) -> list[IncidentType]:
        return list(envelopes.IncidentTypesAnswer.model_validate_json(said).incident_types)

    return Call("GET", "/v1/incident_types", parse, limit=PAGE_LIMIT)


def show_incident_type(incident_type_id: str) -> Call[IncidentType]:
    """Show one incident type, by its ID.

    https://docs.incident.io/api-reference/incident-types-v1/show
    """

    def parse(said: bytes) -> IncidentType:
        return envelopes.IncidentTypeAnswer.model_validate_json(said).incident_type

    return Call("GET", f"/v1/incident_types/{quote(incident_type_id, safe='')}", parse)


def list_incident_statuses() -> Call[list[IncidentStatus]]:
    """List the statuses with their categories.

    https://docs.incident.io/api-reference/incident-statuses-v1/list
    """

    def parse(said: bytes) -> list[IncidentStatus]:
        return list(envelopes.IncidentStatusesAnswer.model_validate_json(said).incident_statuses)

    return Call("GET", "/v1/incident_statuses", parse, limit=PAGE_LIMIT)


def show_incident_status(incident_status_id: str) -> Call[IncidentStatus]:
    """Show one status, by its ID.

    https://docs.incident.io/api-reference/incident-statuses-v1/show
    """

    def parse(said: bytes) -> IncidentStatus:
        return envelopes.IncidentStatusAnswer.model_validate_json(said).incident_status

    return Call("GET", f"/v1/incident_statuses/{quote(incident_status_id, safe='')}", parse)


def list_custom_fields() -> Call[list[CustomField]]:
    """List the custom fields, without their options.

    https://docs.incident.io/api-reference/custom-fields-v2/list
    """

    def parse(said: bytes) -> list[CustomField]:
        return list(envelopes.CustomFieldsAnswer.model_validate_json(said).custom_fields)

    return Call("GET", "/v2/custom_fields", parse, limit=PAGE_LIMIT)


def show_custom_field(custom_field_id: str) -> Call[CustomField]:
    """Show one custom field, by its ID.

    https://docs.incident.io/api-reference/custom-fields-v2/show
    """

    def parse(said: bytes) -> CustomField:
        return envelopes.CustomFieldAnswer.model_validate_json(said).custom_field

    return Call("GET", f"/v2/custom_fields/{quote(custom_field_id, safe='')}", parse)


def list_incident_roles() -> Call[list[IncidentRole]]:
    """List the roles that people take in incidents.

    https://docs.incident.io/api-reference/incident-roles-v2/list
    """

    def parse(said: bytes) -> list[IncidentRole]:
        return list(envelopes.IncidentRolesAnswer.model_validate_json(said).incident_roles)

    return Call("GET", "/v2/incident_roles", parse, limit=PAGE_LIMIT)


def show_incident_role(incident_role_id: str) -> Call[IncidentRole]:
    """Show one role, by its ID.

    https://docs.incident.io/api-reference/incident-roles-v2/show
    """

    def parse(said: bytes) -> IncidentRole:
        return envelopes.IncidentRoleAnswer.model_validate_json(said).incident_role

    return Call("GET", f"/v2/incident_roles/{quote(incident_role_id, safe='')}", parse)


def list_custom_field_options(custom_field_id: str) -> PaginatedCall[CustomFieldOption]:
    """List the options of one custom field over all pages.

    https://docs.incident.io/api-reference/custom-field-options-v1/list
    """

    def parse(said: bytes) -> tuple[Sequence[CustomFieldOption], str | None]:
        answer = envelopes.CustomFieldOptionsAnswer.model_validate_json(said)
        return answer.custom_field_options, answer.pagination_meta.after

    return pages("/v1/custom_field_options", parse, {"custom_field_id": custom_field_id})


def list_incident_timestamps() -> Call[list[IncidentTimestamp]]:
    """List the timestamps that the account records of its incidents.

    https://docs.incident.io/api-reference/incident-timestamps-v2/list
    """

    def parse(said: bytes) -> list[IncidentTimestamp]:
        return list(envelopes.IncidentTimestampsAnswer.model_validate_json(said).incident_timestamps)

    return Call("GET", "/v2/incident_timestamps", parse, limit=PAGE_LIMIT)


def list_users(
    *, email: str | None = None, slack_user_id: str | None = None, include_inactive: bool = False
) -> PaginatedCall[Member]:
    """List people over all pages: all, or the one with an email address or a Slack ID.

    https://docs.incident.io/api-reference/users-v2/list
    """

    def parse(said: bytes) -> tuple[Sequence[Member], str | None]:
        answer = envelopes.UsersAnswer.model_validate_json(said)
        return answer.users, answer.pagination_meta.after

    given = {"email": email, "slack_user_id": slack_user_id, "include_inactive": "true" if include_inactive else None}
    return pages("/v2/users", parse, {name: value for name, value in given.items() if value is not None})
