"""The calls of the API: each function builds one, with the page that documents it beside it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from airflow_incident.api.calls import PAGE_LIMIT, Call, PaginatedCall, pages, quoted, send_alert
from airflow_incident.api.filters import filter_query
from airflow_incident.api.incident import read_head, read_heads


class Late:
    """A module that is loaded when something of it is needed, for building models is not free."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_incident.api import body as bodies
    from airflow_incident.api import envelopes
    from airflow_incident.api.incident import IncidentHead
    from airflow_incident.api.models import Attachment, Identity, Incident, IncidentUpdate
else:
    bodies, envelopes = Late("airflow_incident.api.body"), Late("airflow_incident.api.envelopes")

ApiVersion = Literal["v1", "v2"]
SortBy = Literal["created_at_newest_first", "created_at_oldest_first"]
FilterMode = Literal["all", "any"]


def create_incident_v2(payload: bodies.CreateIncidentV2 | Mapping[str, Any]) -> Call[Incident]:
    """Open an incident through v2, or get the one that its idempotency key has opened before.

    https://docs.incident.io/api-reference/incidents-v2/create

    :raises ConfigurationError: naming every field that cannot be used.
    """
    body = bodies.checked(bodies.CreateIncidentV2, payload)
    return Call(method="POST", path="/v2/incidents", body=body, parse=read_incident)


def edit_incident(
    incident_id: str, changes: bodies.EditIncident | Mapping[str, Any], *, notify_channel: bool = False
) -> Call[Incident]:
    """Change what is given of an incident, whichever version opened it; the rest stays as it is.

    https://docs.incident.io/api-reference/incidents-v2/edit

    :param notify_channel: Whether the incident's Slack channel is told.
    :raises ConfigurationError: naming every field that cannot be used.
    """
    body = {"incident": bodies.checked(bodies.EditIncident, changes), "notify_incident_channel": notify_channel}
    return Call(method="POST", path=f"/v2/incidents/{quoted(incident_id)}/actions/edit", body=body, parse=read_incident)


def show_incident(incident_id: str, *, api_version: ApiVersion = "v1") -> Call[Incident]:
    """Show one incident, by its ID; each version shows the incidents of both.

    https://docs.incident.io/api-reference/incidents-v1/show
    https://docs.incident.io/api-reference/incidents-v2/show
    """
    return Call(method="GET", path=f"/{api_version}/incidents/{quoted(incident_id)}", parse=read_incident)


def show_head(incident_id: str) -> Call[IncidentHead]:
    """Show how an incident stands: through v2, which outlives v1, knows what v1 opened, and has all the categories.

    https://docs.incident.io/api-reference/incidents-v2/show
    """
    return Call(method="GET", path=f"/v2/incidents/{quoted(incident_id)}", parse=read_head)


def list_incidents(*, status: Sequence[str] = ()) -> PaginatedCall[Incident]:
    """List incidents over all pages, those in one of some statuses or all.

    https://docs.incident.io/api-reference/incidents-v1/list
    """
    return pages("/v1/incidents", _incidents, {"status": list(status)} if status else None)


def list_incidents_v2(
    filters: Mapping[str, Any] | None = None,
    *,
    sort_by: SortBy | None = None,
    filter_mode: FilterMode | None = None,
) -> PaginatedCall[Incident]:
    """List incidents through v2 over all pages; without a filter on `mode`, none of a test or a tutorial.

    https://docs.incident.io/api-reference/incidents-v2/list

    :param filters: Like `{"status_category": {"one_of": ["live"]}}`.
    :param filter_mode: Whether an incident must match all filters, the default, or any.
    :raises ConfigurationError: naming every filter that cannot be used.
    """
    query: dict[str, str | int | Sequence[str]] = {**filter_query(filters or {})}
    if sort_by:
        query["sort_by"] = sort_by
    if filter_mode:
        query["filter_mode"] = filter_mode
    return pages("/v2/incidents", _incidents, query)


def list_incident_updates(incident_id: str | None = None) -> PaginatedCall[IncidentUpdate]:
    """List what was said about one incident, or about all, over all pages.

    https://docs.incident.io/api-reference/incident-updates-v2/list
    """

    def parse(said: bytes) -> tuple[Sequence[IncidentUpdate], str | None]:
        answer = envelopes.IncidentUpdatesAnswer.model_validate_json(said)
        return answer.incident_updates, answer.pagination_meta.after

    return pages("/v2/incident_updates", parse, {"incident_id": incident_id} if incident_id else None)


def create_attachment(incident_id: str, resource: bodies.ResourcePayload | Mapping[str, Any]) -> Call[Attachment]:
    """Attach a thing of another system to an incident.

    https://docs.incident.io/api-reference/incident-attachments-v1/create

    :param resource: Like `{"resource_type": "github_pull_request", "external_id": "123"}`.
    :raises ConfigurationError: naming every field that cannot be used.
    """

    def parse(said: bytes) -> Attachment:
        return envelopes.AttachmentAnswer.model_validate_json(said).incident_attachment

    body = {"incident_id": incident_id, "resource": bodies.checked(bodies.ResourcePayload, resource)}
    return Call(method="POST", path="/v1/incident_attachments", body=body, parse=parse)


def attach_link(incident_id: str, *, url: str, title: str) -> Call[None]:
    """Attach a link to an incident.

    https://docs.incident.io/api-reference/incident-attachments-v1/create
    """
    resource = {"resource_type": "arbitrary_url", "url": url, "title": title}
    body = {"incident_id": incident_id, "resource": resource}
    return Call(method="POST", path="/v1/incident_attachments", body=body, parse=_nothing)


def list_attachments(
    incident_id: str | None = None, *, external_id: str | None = None, resource_type: str | None = None
) -> Call[list[Attachment]]:
    """List what is attached to an incident, or where a thing of another system is attached.

    https://docs.incident.io/api-reference/incident-attachments-v1/list
    """

    def parse(said: bytes) -> list[Attachment]:
        return list(envelopes.AttachmentsAnswer.model_validate_json(said).incident_attachments)

    given = {"incident_id": incident_id, "external_id": external_id, "resource_type": resource_type}
    query = {name: value for name, value in given.items() if value is not None}
    return Call(method="GET", path="/v1/incident_attachments", query=query, parse=parse, limit=PAGE_LIMIT)


def delete_attachment(attachment_id: str) -> Call[None]:
    """Take an attachment away from its incident.

    https://docs.incident.io/api-reference/incident-attachments-v1/delete
    """
    return Call(method="DELETE", path=f"/v1/incident_attachments/{quoted(attachment_id)}", parse=_nothing)


def create_alert_event(event: bodies.AlertEvent | Mapping[str, Any]) -> Call[envelopes.AlertEventReceipt]:
    """Tell the connection's alert source that something fires or is resolved; the source has a token of its own.

    https://docs.incident.io/api-reference/alert-events-v2/create-http

    :raises ConfigurationError: naming every field that cannot be used.
    """

    def parse(said: bytes) -> envelopes.AlertEventReceipt:
        return envelopes.AlertEventReceipt.model_validate_json(said)

    return send_alert(bodies.checked(bodies.AlertEvent, event))._replace(parse=parse)


def any_incident() -> Call[None]:
    """Ask v1 for as little as possible: whether it is still served."""
    return Call(method="GET", path="/v1/incidents", query={"page_size": 1}, parse=lambda _: None, limit=PAGE_LIMIT)


def find_incident(*, since: str, mode: str | None) -> PaginatedCall[tuple[IncidentHead, str | None]]:
    """List the incidents since a day with their summaries, through v2, whatever opened them.

    https://docs.incident.io/api-reference/incidents-v2/list
    """
    query: dict[str, str | int | Sequence[str]] = {"created_at[gte]": since}
    if mode == "test":  # otherwise they are left out
        query["mode[one_of]"] = mode
    return pages("/v2/incidents", read_heads, query)


def show_identity() -> Call[Identity]:
    """Show the name and the roles of the API key; changes nothing.

    https://docs.incident.io/api-reference/utilities-v1/identity
    """
    return Call(method="GET", path="/v1/identity", parse=_identity)


def _nothing(_: bytes) -> None:
    return None


def _identity(content: bytes) -> Identity:
    return envelopes.IdentityAnswer.model_validate_json(content).identity


def read_incident(content: bytes) -> Incident:
    """Read the answer to a create or a show, with all its fields."""
    return envelopes.IncidentAnswer.model_validate_json(content).incident


def _incidents(content: bytes) -> tuple[Sequence[Incident], str | None]:
    answer = envelopes.IncidentsAnswer.model_validate_json(content)
    return answer.incidents, answer.pagination_meta.after
