"""What is asked of the API, as values: a call, a listing, a plan of calls, and the creation of an incident."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from urllib.parse import quote

from airflow_incident.api.incident import read_alert, read_head
from airflow_incident.frozen import Frozen

if TYPE_CHECKING:
    from airflow_incident.api.directory import Directory

T = TypeVar("T")

ONE_LIMIT = 1024 * 1024
"""Largest answer that is read for one object, in bytes."""
PAGE_LIMIT = 16 * 1024 * 1024
"""Largest answer that is read for one page of a list, in bytes."""
PAGE_SIZE = 250
"""Items asked for at once; the largest that every version of the document allows."""

ALERT_SOURCE = "{alert_source}"
"""Stands for the connection's alert source in a path: its ID and its token are the driver's to add."""

Endpoint = Literal["v1", "v2", "alert"]
"""How a failure is told: a version of the incidents API, or an alert source."""

Query = Mapping[str, str | int | Sequence[str]]


class Call(Frozen, Generic[T]):
    """One request that has not been made; `parse` reads its answer, and raises if it cannot."""

    method: str
    path: str
    parse: Callable[[bytes], T]
    query: Query | None = None
    body: Mapping[str, Any] | None = None
    limit: int = ONE_LIMIT


class PaginatedCall(Frozen, Generic[T]):
    """A call that is answered in pages: `page` builds the one that begins after an item."""

    page: Callable[[str | None], Call[tuple[Sequence[T], str | None]]]


class CallSequence(Frozen, Generic[T]):
    """Several calls that depend on one another, made within one budget.

    `steps` begins a generator that yields calls and is sent what each was answered; the error of one that failed is
    raised where it was yielded. What the generator returns is the plan's answer. It is given what this process has
    looked up before. `share` is how much of the time that is left it may take, so that enough is left for what matters.
    """

    steps: Callable[[Directory], Generator[Any, Any, T]]
    share: float = 1.0


def pages(
    path: str, parse: Callable[[bytes], tuple[Sequence[T], str | None]], query: Query | None = None
) -> PaginatedCall[T]:
    """Build a listing: each page begins after the last item of the one before."""

    def page(after: str | None) -> Call[tuple[Sequence[T], str | None]]:
        asked: dict[str, str | int | Sequence[str]] = {"page_size": PAGE_SIZE, **(query or {})}
        if after:
            asked["after"] = after
        return Call("GET", path, parse, asked, limit=PAGE_LIMIT)

    return PaginatedCall(page)


class PreparedCreate(Frozen):
    """A create that is ready to be sent; nothing of it changes once its first byte may have left.

    `partial` says that a look-up failed: what has surely not arrived may be made anew, with all its names. `read` reads
    the answer; by default only which incident it is and how it stands.
    """

    body: Mapping[str, Any]
    endpoint: Endpoint = "v1"
    partial: bool = False
    read: Callable[[bytes], Any] = read_head

    def with_key(self, key: str) -> PreparedCreate:
        """Return the same with another idempotency key."""
        return self._replace(body={**self.body, "idempotency_key": key})


def create_call(creation: PreparedCreate) -> Call[Any]:
    """Open an incident with a body that is ready, or get the one that its key has opened before; or send an alert.

    https://docs.incident.io/api-reference/incidents-v1/create
    https://docs.incident.io/api-reference/incidents-v2/create
    """
    if creation.endpoint == "alert":
        return send_alert(creation.body)
    return Call(method="POST", path=f"/{creation.endpoint}/incidents", body=creation.body, parse=creation.read)


def send_alert(event: Mapping[str, Any]) -> Call[Any]:
    """Do as `create_alert_event` does with an event that is ready, and read only how the alert stands."""
    return Call(method="POST", path=f"/v2/alert_events/http/{ALERT_SOURCE}", body=event, parse=read_alert)


def addressed(path: str, alert_source_id: str | None) -> str:
    """Write the connection's alert source into a path that needs it."""
    return path.replace(ALERT_SOURCE, quoted(alert_source_id)) if alert_source_id else path


def is_for_alert_source(call: Any) -> bool:
    """Return whether a call goes to the connection's alert source, which takes its token instead of the API key."""
    return isinstance(call, Call) and ALERT_SOURCE in call.path


def quoted(text: str) -> str:
    """Quote an ID, so that it stays one part of a path."""
    return quote(text, safe="")
