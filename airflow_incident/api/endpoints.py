"""The calls of the API: each function builds one, with the page that documents it beside it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar
from urllib.parse import quote

from airflow_incident.api.head import read_alert, read_head, read_heads

if TYPE_CHECKING:
    from airflow_incident.api.body import CreateIncident
    from airflow_incident.api.directory import Directory
    from airflow_incident.api.head import AlertHead, IncidentHead
    from airflow_incident.api.models import Identity, Incident

T = TypeVar("T")

ONE_LIMIT = 1024 * 1024
"""Largest answer that is read for one object, in bytes."""
PAGE_LIMIT = 16 * 1024 * 1024
"""Largest answer that is read for one page of a list, in bytes."""
PAGE_SIZE = 250
"""Items asked for at once; the largest that every version of the document allows."""

ALERT_SOURCE = "{alert_source}"
"""Stands for the connection's alert source in a path: its ID and its token are the driver's to add."""

Via = Literal["v1", "v2", "alert"]
"""How a failure is told: a version of the incidents API, or an alert source."""

Query = Mapping[str, str | int | Sequence[str]]


class Call(NamedTuple, Generic[T]):
    """One request that has not been made; `parse` reads its answer and raises ValueError if it cannot."""

    method: str
    path: str
    parse: Callable[[bytes], T]
    query: Query | None = None
    body: Mapping[str, Any] | None = None
    limit: int = ONE_LIMIT


class Listing(NamedTuple, Generic[T]):
    """A call that is answered in pages: `page` builds the one that begins after an item."""

    page: Callable[[str | None], Call[tuple[Sequence[T], str | None]]]


class Plan(NamedTuple, Generic[T]):
    """Several calls that depend on one another, made within one budget.

    `steps` begins a generator that yields calls and is sent what each was answered; the error of one that failed is
    raised where it was yielded. What the generator returns is the plan's answer. It is given what this process has
    looked up before.
    """

    steps: Callable[[Directory], Generator[Any, Any, T]]


def create_incident(payload: CreateIncident) -> Call[Incident]:
    """Open an incident, or get the one that its idempotency key has opened before.

    https://docs.incident.io/api-reference/incidents-v1/create
    """
    return Call(method="POST", path="/v1/incidents", body=_json(payload), parse=read_incident)


class Creation(NamedTuple):
    """A create that is ready to be sent; nothing of it changes once its first byte may have left.

    `partial` says that a look-up failed: what has surely not arrived may be made anew, with all its names. `read` reads
    the answer; by default only which incident it is and how it stands.
    """

    body: Mapping[str, Any]
    via: Via = "v1"
    partial: bool = False
    read: Callable[[bytes], Any] = read_head


def open_incident(creation: Creation) -> Call[Any]:
    """Open an incident with a body that is ready, or get the one that its key has opened before; or send an alert.

    https://docs.incident.io/api-reference/incidents-v1/create
    https://docs.incident.io/api-reference/incidents-v2/create
    """
    if creation.via == "alert":
        return send_alert(creation.body)
    return Call(method="POST", path=f"/{creation.via}/incidents", body=creation.body, parse=creation.read)


def send_alert(event: Mapping[str, Any]) -> Call[AlertHead]:
    """Tell the connection's alert source that something fires, or is resolved.

    https://docs.incident.io/api-reference/alert-events-v2/create-http
    """
    return Call(method="POST", path=f"/v2/alert_events/http/{ALERT_SOURCE}", body=event, parse=read_alert)


def any_incident() -> Call[None]:
    """Ask v1 for as little as possible: whether it is still served."""
    return Call(method="GET", path="/v1/incidents", query={"page_size": 1}, parse=lambda _: None, limit=PAGE_LIMIT)


def find_incident(*, since: str, mode: str | None) -> Listing[tuple[IncidentHead, str | None]]:
    """List the incidents since a day with their summaries, through v2, whatever opened them.

    https://docs.incident.io/api-reference/incidents-v2/list
    """
    query: dict[str, str | int | Sequence[str]] = {"page_size": PAGE_SIZE, "created_at[gte]": since}
    if mode == "test":  # otherwise they are left out
        query["mode[one_of]"] = mode

    def page(after: str | None) -> Call[tuple[Sequence[tuple[IncidentHead, str | None]], str | None]]:
        asked = query | {"after": after} if after else query
        return Call(method="GET", path="/v2/incidents", query=asked, parse=read_heads, limit=PAGE_LIMIT)

    return Listing(page)


def show_incident(incident_id: str) -> Call[Incident]:
    """Show one incident, by its ID.

    https://docs.incident.io/api-reference/incidents-v1/show
    """
    return Call(method="GET", path=f"/v1/incidents/{quote(incident_id, safe='')}", parse=read_incident)


def show_head(incident_id: str) -> Call[IncidentHead]:
    """Do as `show_incident` does, and read only how the incident stands."""
    return Call(method="GET", path=f"/v1/incidents/{quote(incident_id, safe='')}", parse=read_head)


def attach_link(incident_id: str, *, url: str, title: str) -> Call[None]:
    """Attach a link to an incident.

    https://docs.incident.io/api-reference/incident-attachments-v1/create
    """
    resource = {"resource_type": "arbitrary_url", "url": url, "title": title}
    body = {"incident_id": incident_id, "resource": resource}
    return Call(method="POST", path="/v1/incident_attachments", body=body, parse=lambda _: None)


def list_incidents(*, status: Sequence[str] = ()) -> Listing[Incident]:
    """List incidents over all pages, those in one of some statuses or all.

    https://docs.incident.io/api-reference/incidents-v1/list
    """

    def page(after: str | None) -> Call[tuple[Sequence[Incident], str | None]]:
        query: dict[str, str | int | Sequence[str]] = {"page_size": PAGE_SIZE}
        if status:
            query["status"] = list(status)
        if after:
            query["after"] = after
        return Call(method="GET", path="/v1/incidents", query=query, parse=_incidents, limit=PAGE_LIMIT)

    return Listing(page)


def show_identity() -> Call[Identity]:
    """Show the name and the roles of the API key; changes nothing.

    https://docs.incident.io/api-reference/utilities-v1/identity
    """
    return Call(method="GET", path="/v1/identity", parse=_identity)


def _identity(content: bytes) -> Identity:
    from airflow_incident.api.models import IdentityAnswer  # noqa: PLC0415 -- law 5

    return IdentityAnswer.model_validate_json(content).identity


def _json(payload: CreateIncident) -> dict[str, Any]:
    return payload.model_dump(mode="json", exclude_none=True)


def read_incident(content: bytes) -> Incident:
    from airflow_incident.api.models import IncidentAnswer  # noqa: PLC0415 -- law 5

    return IncidentAnswer.model_validate_json(content).incident


def _incidents(content: bytes) -> tuple[Sequence[Incident], str | None]:
    from airflow_incident.api.models import IncidentsAnswer  # noqa: PLC0415 -- law 5

    answer = IncidentsAnswer.model_validate_json(content)
    return answer.incidents, answer.pagination_meta.after
