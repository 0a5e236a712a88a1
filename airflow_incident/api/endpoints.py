"""The endpoints of the API: each function builds the call of one, with the page that documents it beside it.

Nothing is sent and nothing Airflow's enters. Models are built when a body is checked or an answer is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_incident.api.calls import PAGE_LIMIT, Call, PaginatedCall, pages, quoted, send_alert
from airflow_incident.api.incident import read_incident_state, read_incident_states, read_object, read_page
from airflow_incident.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from airflow_incident.api.body import AlertEvent, CreateIncidentV2, EditIncident, ResourcePayload
    from airflow_incident.api.calls import ApiVersion
    from airflow_incident.api.incident import IncidentState
    from airflow_incident.api.models import (
        AlertEventReceipt,
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

SortBy = Literal["created_at_newest_first", "created_at_oldest_first"]
FilterMode = Literal["all", "any"]

_ONE_OF = ("one_of", "not_in")
_WHEN = ("gte", "lte", "date_range")

OPERATORS: Mapping[str, tuple[str, ...]] = {
    "status": _ONE_OF,
    "status_category": _ONE_OF,
    "severity": (*_ONE_OF, "gte", "lte"),
    "incident_type": _ONE_OF,
    "mode": ("one_of",),
    "created_at": _WHEN,
    "updated_at": _WHEN,
}
"""The filters of v2's list, each with its operators. https://docs.incident.io/api-reference/incidents-v2/list"""
OPERATORS_BY_ID: Mapping[str, tuple[str, ...]] = {"incident_role": ("one_of", "is_blank"), "custom_field": ()}
"""Filters that name a role or a custom field first; the operators of a custom field depend on its type."""


def create_incident_v2(payload: CreateIncidentV2 | Mapping[str, Any]) -> Call[Incident]:
    """Open an incident through v2, or get the one that its idempotency key has opened before.

    https://docs.incident.io/api-reference/incidents-v2/create

    :raises ConfigurationError: naming every field that cannot be used.
    """
    return Call("POST", "/v2/incidents", read_incident, body=_checked("CreateIncidentV2", payload))


def edit_incident(
    incident_id: str, changes: EditIncident | Mapping[str, Any], *, notify_channel: bool = False
) -> Call[Incident]:
    """Change what is given of an incident, whichever version opened it; the rest stays as it is.

    https://docs.incident.io/api-reference/incidents-v2/edit

    :param changes: Fields of the edit under their own names, like `{"incident_status_id": "01…"}`.
    :param notify_channel: Whether a message goes to the incident's Slack channel.
    :raises ConfigurationError: naming every field that cannot be used.
    """
    body = {"incident": _checked("EditIncident", changes), "notify_incident_channel": notify_channel}
    return Call("POST", f"/v2/incidents/{quoted(incident_id)}/actions/edit", read_incident, body=body)


def show_incident(incident_id: str, *, api_version: ApiVersion = "v1") -> Call[Incident]:
    """Show one incident; each version shows the incidents of both.

    https://docs.incident.io/api-reference/incidents-v1/show
    https://docs.incident.io/api-reference/incidents-v2/show
    """
    return Call("GET", f"/{api_version}/incidents/{quoted(incident_id)}", read_incident)


def show_incident_state(incident_id: str) -> Call[IncidentState]:
    """Show how an incident stands: through v2, which outlives v1, knows what v1 opened, and has all the categories.

    https://docs.incident.io/api-reference/incidents-v2/show
    """
    return Call("GET", f"/v2/incidents/{quoted(incident_id)}", read_incident_state)


def list_incident_states(*, since: str, mode: str | None = None) -> PaginatedCall[IncidentState]:
    """List how the incidents since a day stand, through v2, whatever opened them.

    https://docs.incident.io/api-reference/incidents-v2/list

    :param since: Like `2026-11-25`.
    :param mode: `test` lists incidents of tests alone, which are left out otherwise.
    """
    query = _given(**{"created_at[gte]": since, "mode[one_of]": mode if mode == "test" else None})
    return pages("/v2/incidents", read_incident_states, query)


def list_incidents(*, status: Sequence[str] = ()) -> PaginatedCall[Incident]:
    """List incidents through v1 over all pages.

    https://docs.incident.io/api-reference/incidents-v1/list

    :param status: Only those in one of v1's statuses, like `triage`. Default: all.
    """
    return pages("/v1/incidents", _page("Incident", "incidents"), {"status": list(status)} if status else None)


def list_incidents_v2(
    filters: Mapping[str, Any] | None = None,
    *,
    sort_by: SortBy | None = None,
    filter_mode: FilterMode | None = None,
) -> PaginatedCall[Incident]:
    """List incidents through v2 over all pages; without a filter on `mode`, none of a test or a tutorial.

    https://docs.incident.io/api-reference/incidents-v2/list

    :param filters: Like `{"status_category": {"one_of": ["live"]}}`.
    :param sort_by: Default: `created_at_newest_first`.
    :param filter_mode: Whether an incident must match all filters, the default, or any.
    :raises ConfigurationError: naming every filter that cannot be used.
    """
    query = {**filter_query(filters or {}), **_given(sort_by=sort_by, filter_mode=filter_mode)}
    return pages("/v2/incidents", _page("Incident", "incidents"), query)


def any_incident() -> Call[None]:
    """List as little as possible through v1: whether it is still served.

    https://docs.incident.io/api-reference/incidents-v1/list
    """
    return Call("GET", "/v1/incidents", _nothing, {"page_size": 1}, limit=PAGE_LIMIT)


def list_incident_updates(incident_id: str | None = None) -> PaginatedCall[IncidentUpdate]:
    """List the updates of one incident, or of all, over all pages.

    https://docs.incident.io/api-reference/incident-updates-v2/list
    """
    return pages("/v2/incident_updates", _page("IncidentUpdate", "incident_updates"), _given(incident_id=incident_id))


def create_attachment(incident_id: str, resource: ResourcePayload | Mapping[str, Any]) -> Call[Attachment]:
    """Attach a resource of another system to an incident.

    https://docs.incident.io/api-reference/incident-attachments-v1/create

    :param resource: Like `{"resource_type": "github_pull_request", "external_id": "123"}`.
    :raises ConfigurationError: naming every field that cannot be used.
    """
    body = {"incident_id": incident_id, "resource": _checked("ResourcePayload", resource)}
    return Call("POST", "/v1/incident_attachments", _one("Attachment", "incident_attachment"), body=body)


def attach_link(incident_id: str, *, url: str, title: str) -> Call[None]:
    """Attach a link to an incident (https://docs.incident.io/api-reference/incident-attachments-v1/create)."""
    resource = {"resource_type": "arbitrary_url", "url": url, "title": title}
    body = {"incident_id": incident_id, "resource": resource}
    return Call("POST", "/v1/incident_attachments", _nothing, body=body)


def edit_summary(incident_id: str, *, summary: str, notify_channel: bool) -> Call[IncidentState]:
    """Replace an incident's summary.

    https://docs.incident.io/api-reference/incidents-v2/edit

    :param notify_channel: Whether a message goes to the incident's Slack channel.
    """
    body = {"incident": {"summary": summary}, "notify_incident_channel": notify_channel}
    return Call("POST", f"/v2/incidents/{quoted(incident_id)}/actions/edit", read_incident_state, body=body)


def list_attachments(
    incident_id: str | None = None, *, external_id: str | None = None, resource_type: str | None = None
) -> Call[list[Attachment]]:
    """List what is attached to an incident, or where a resource of another system is attached.

    https://docs.incident.io/api-reference/incident-attachments-v1/list
    """
    query = _given(incident_id=incident_id, external_id=external_id, resource_type=resource_type)
    return _list("/v1/incident_attachments", "Attachment", "incident_attachments", query)


def delete_attachment(attachment_id: str) -> Call[None]:
    """Take an attachment away from its incident.

    https://docs.incident.io/api-reference/incident-attachments-v1/delete
    """
    return Call("DELETE", f"/v1/incident_attachments/{quoted(attachment_id)}", _nothing)


def create_alert_event(event: AlertEvent | Mapping[str, Any]) -> Call[AlertEventReceipt]:
    """Tell the connection's alert source that something is firing or resolved; the source has a token of its own.

    https://docs.incident.io/api-reference/alert-events-v2/create-http

    :raises ConfigurationError: naming every field that cannot be used.
    """
    return send_alert(_checked("AlertEvent", event))._replace(parse=_one("AlertEventReceipt"))


def list_severities() -> Call[list[Severity]]:
    """List the severities; a lower rank is less severe (https://docs.incident.io/api-reference/severities-v1/list)."""
    return _list("/v1/severities", "Severity", "severities")


def show_severity(severity_id: str) -> Call[Severity]:
    """Show one severity (https://docs.incident.io/api-reference/severities-v1/show)."""
    return _show("/v1/severities", severity_id, "Severity", "severity")


def list_incident_types() -> Call[list[IncidentType]]:
    """List the incident types (https://docs.incident.io/api-reference/incident-types-v1/list)."""
    return _list("/v1/incident_types", "IncidentType", "incident_types")


def show_incident_type(incident_type_id: str) -> Call[IncidentType]:
    """Show one incident type (https://docs.incident.io/api-reference/incident-types-v1/show)."""
    return _show("/v1/incident_types", incident_type_id, "IncidentType", "incident_type")


def list_incident_statuses() -> Call[list[IncidentStatus]]:
    """List the statuses with their categories (https://docs.incident.io/api-reference/incident-statuses-v1/list)."""
    return _list("/v1/incident_statuses", "IncidentStatus", "incident_statuses")


def show_incident_status(incident_status_id: str) -> Call[IncidentStatus]:
    """Show one status (https://docs.incident.io/api-reference/incident-statuses-v1/show)."""
    return _show("/v1/incident_statuses", incident_status_id, "IncidentStatus", "incident_status")


def list_custom_fields() -> Call[list[CustomField]]:
    """List the custom fields, without their options (https://docs.incident.io/api-reference/custom-fields-v2/list)."""
    return _list("/v2/custom_fields", "CustomField", "custom_fields")


def show_custom_field(custom_field_id: str) -> Call[CustomField]:
    """Show one custom field (https://docs.incident.io/api-reference/custom-fields-v2/show)."""
    return _show("/v2/custom_fields", custom_field_id, "CustomField", "custom_field")


def list_custom_field_options(custom_field_id: str) -> PaginatedCall[CustomFieldOption]:
    """List the options of one custom field over all pages.

    https://docs.incident.io/api-reference/custom-field-options-v1/list
    """
    parse = _page("CustomFieldOption", "custom_field_options")
    return pages("/v1/custom_field_options", parse, {"custom_field_id": custom_field_id})


def list_incident_roles() -> Call[list[IncidentRole]]:
    """List the roles that people take in incidents (https://docs.incident.io/api-reference/incident-roles-v2/list)."""
    return _list("/v2/incident_roles", "IncidentRole", "incident_roles")


def show_incident_role(incident_role_id: str) -> Call[IncidentRole]:
    """Show one role (https://docs.incident.io/api-reference/incident-roles-v2/show)."""
    return _show("/v2/incident_roles", incident_role_id, "IncidentRole", "incident_role")


def list_incident_timestamps() -> Call[list[IncidentTimestamp]]:
    """List the timestamps that the account records of its incidents.

    https://docs.incident.io/api-reference/incident-timestamps-v2/list
    """
    return _list("/v2/incident_timestamps", "IncidentTimestamp", "incident_timestamps")


def list_users(
    *, email: str | None = None, slack_user_id: str | None = None, include_inactive: bool = False
) -> PaginatedCall[Member]:
    """List people over all pages: all, or the one with an email address or a Slack ID.

    https://docs.incident.io/api-reference/users-v2/list

    :param include_inactive: Whether those who have left are listed, too.
    """
    inactive = "true" if include_inactive else None
    query = _given(email=email, slack_user_id=slack_user_id, include_inactive=inactive)
    return pages("/v2/users", _page("Member", "users"), query)


def show_identity() -> Call[Identity]:
    """Show the name and the roles of the API key (https://docs.incident.io/api-reference/utilities-v1/identity)."""
    return Call("GET", "/v1/identity", _one("Identity", "identity"))


def read_incident(content: bytes) -> Incident:
    """Read the answer to a create, a show or an edit, with all its fields."""
    incident: Incident = _one("Incident", "incident")(content)
    return incident


def filter_query(filters: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Put filters like `{"status_category": {"one_of": ["live"]}}` into the form `status_category[one_of]=live`.

    :raises ConfigurationError: naming every filter that cannot be used.
    """
    problems: list[Problem] = []
    query: dict[str, Sequence[str]] = {}
    for name, given in filters.items():
        if name in OPERATORS:
            query |= _operations(name, given, OPERATORS[name], problems)
        elif name in OPERATORS_BY_ID and isinstance(given, Mapping) and given:
            for identity, asked in given.items():
                query |= _operations(f"{name}[{identity}]", asked, OPERATORS_BY_ID[name], problems)
        elif name in OPERATORS_BY_ID:
            problems.append(Problem(_label(name), "must be a mapping like {id: {operator: values}}"))
        else:
            known = ", ".join((*OPERATORS, *OPERATORS_BY_ID))
            problems.append(Problem(_label(name), f"is unknown; there are {known}"))
    if problems:
        raise ConfigurationError(problems)
    return query


def _operations(
    place: str, given: Any, operators: Sequence[str], problems: list[Problem]
) -> Iterator[tuple[str, list[str]]]:
    """Read `{operator: values}`. A filter that says nothing would list everything, so it is refused."""
    if not isinstance(given, Mapping) or not given:
        problems.append(Problem(_label(place), "must be a mapping like {operator: values}"))
        return
    for operator, values in given.items():
        if operators and operator not in operators:
            problems.append(Problem(_label(place), f"cannot be asked {operator!r}; it knows {', '.join(operators)}"))
        elif texts := _texts(values):
            yield f"{place}[{operator}]", texts
        else:
            problems.append(Problem(_label(place), f"{operator!r} needs one or more values, each a text"))


def _texts(values: Any) -> list[str] | None:
    """Read one value or several; None if there is none or one is no text, number or flag."""
    several = [values] if isinstance(values, str) or not isinstance(values, Sequence) else values
    texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in several]
    usable = all(isinstance(value, str | int | float) for value in several) and all(texts)
    return texts if usable and texts else None


def _label(place: str) -> str:
    return f"Filter {place!r}"


def _given(**query: str | None) -> dict[str, str | int | Sequence[str]]:
    return {name: value for name, value in query.items() if value is not None}


def _checked(model: str, given: Any) -> dict[str, Any]:
    from airflow_incident.api import body

    return body.checked(getattr(body, model), given)


def _show(path: str, identity: str, model: str, name: str) -> Call[Any]:
    return Call("GET", f"{path}/{quoted(identity)}", _one(model, name))


def _list(path: str, model: str, name: str, query: dict[str, Any] | None = None) -> Call[list[Any]]:
    return Call("GET", path, lambda content: _page(model, name)(content)[0], query, limit=PAGE_LIMIT)


def _one(model: str, name: str | None = None) -> Callable[[bytes], Any]:
    """Make the reader of an answer that is an object of a model, or holds one under a name."""

    def parse(content: bytes) -> Any:
        from airflow_incident.api import models

        answer = read_object(content)
        return getattr(models, model).model_validate(answer if name is None else answer.get(name))

    return parse


def _page(model: str, name: str) -> Callable[[bytes], tuple[list[Any], str | None]]:
    """Make the reader of a page that holds a list of objects of a model under a name, and says where it goes on."""

    def parse(content: bytes) -> tuple[list[Any], str | None]:
        from airflow_incident.api import models

        rows, after = read_page(content, name)
        return [getattr(models, model).model_validate(row) for row in rows], after

    return parse


def _nothing(_: bytes) -> None:
    return None
