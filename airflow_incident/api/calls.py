"""What is asked of the API, as values: one call, the pages of a list, a sequence of calls, the create of an incident.

No I/O and no model enters.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from urllib.parse import quote

from airflow_incident.api.incident import read_alert, read_incident_state
from airflow_incident.core.timing import STALE_SECONDS
from airflow_incident.errors import APIError

T = TypeVar("T")

ApiVersion = Literal["v1", "v2"]

ONE_LIMIT = 1024 * 1024
"""Largest answer that is read for one object, in bytes."""
PAGE_LIMIT = 16 * 1024 * 1024
"""Largest answer that is read for one page of a list, in bytes."""
PAGE_SIZE = 250
"""Items asked for at once; the largest that every version of the document allows."""

ALERT_SOURCE = "{alert_source}"
"""Stands for the connection's alert source in a path: its ID and its token are added when the request is sent."""

Endpoint = Literal["v1", "v2", "alert"]
"""How a failure is reported: a version of the incidents API, or an alert source."""

Query = Mapping[str, str | int | Sequence[str]]
Row = Mapping[str, Any]
"""One of a list, as the answer has it: always with an `id`, which is a text."""
Rows = Sequence[Row]


class Directory:
    """What this process has learnt of one account; threads and coroutines may share it.

    It keeps the lists that names are looked up in. It has no lock: two that look up the same list at once do it twice,
    and the first answer stays. `v1_gone` says that the end of the API's first version was met; `ahead` by how many
    seconds the API's clock was ahead of this machine's, by its last answer.

    :param clock: Counts seconds, and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = float) -> None:
        self.v1_gone = False
        self.ahead: float | None = None
        self._clock = clock
        self._lists: dict[str, tuple[Rows, float]] = {}

    def rows(self, key: str) -> Rows | None:
        """Return a list, if it was looked up."""
        kept = self._lists.get(key)
        return kept[0] if kept else None

    def is_stale(self, key: str) -> bool:
        """Return whether a list is old enough to lack something new."""
        kept = self._lists.get(key)
        return kept is not None and self._clock() - kept[1] > STALE_SECONDS

    def keep(self, key: str, rows: Rows) -> Rows:
        """Keep a list that was looked up, and return the one that everybody shall use."""
        if self.is_stale(key):
            self._lists[key] = (rows, self._clock())
        return self._lists.setdefault(key, (rows, self._clock()))[0]


class Call(NamedTuple, Generic[T]):
    """One request that has not been made; `parse` reads its answer, and raises if it cannot."""

    method: str
    path: str
    parse: Callable[[bytes], T]
    query: Query | None = None
    body: Mapping[str, Any] | None = None
    limit: int = ONE_LIMIT


class PaginatedCall(NamedTuple, Generic[T]):
    """A list that is answered in pages: `page` builds the call for the one that begins after an item."""

    page: Callable[[str | None], Call[tuple[Sequence[T], str | None]]]


class CallSequence(NamedTuple, Generic[T]):
    """Several calls that depend on one another, made within one budget.

    `steps` begins a generator that yields calls and is sent what each was answered; the error of one that failed is
    raised where it was yielded. What the generator returns is the answer. It is given what this process has looked up
    before. `share` is how much of the time that is left it may take, from 0 to 1, so that enough is left for what
    matters.
    """

    steps: Callable[[Directory], Generator[Any, Any, T]]
    share: float = 1.0


def pages(
    path: str, parse: Callable[[bytes], tuple[Sequence[T], str | None]], query: Query | None = None
) -> PaginatedCall[T]:
    """Build a list over all pages: each begins after the last item of the one before."""

    def page(after: str | None) -> Call[tuple[Sequence[T], str | None]]:
        asked: dict[str, str | int | Sequence[str]] = {"page_size": PAGE_SIZE, **(query or {})}
        if after:
            asked["after"] = after
        return Call("GET", path, parse, asked, limit=PAGE_LIMIT)

    return PaginatedCall(page)


def either_version(api_version: str, v1: Any, v2: Any) -> Any:
    """Choose between two calls by the version of the API; `auto` is v1 as long as that is served, then v2."""
    if api_version == "auto" and v1 is not v2:
        return CallSequence(lambda _: _first_served(v1, v2))
    return v2 if api_version == "v2" else v1


def _first_served(v1: Any, v2: Any) -> Generator[Any, Any, Any]:
    try:
        return (yield v1)
    except APIError as error:
        # v1 is gone, or only has no such incident: asking v2 as well changes nothing there.
        if error.status not in {404, 410}:
            raise
    return (yield v2)


class PreparedCreate(NamedTuple):
    """A create that is ready to be sent; nothing of it changes once its first byte may have left.

    `partial` says that a look-up failed: what has surely not arrived may be made anew, with all its names. `read` reads
    the answer; default: only which incident it is and how it stands. `notes` say what was left out, and why.
    """

    body: Mapping[str, Any]
    endpoint: Endpoint = "v1"
    partial: bool = False
    read: Callable[[bytes], Any] = read_incident_state
    notes: tuple[str, ...] = ()

    def with_key(self, key: str) -> PreparedCreate:
        """Return the same with another idempotency key."""
        return self._replace(body={**self.body, "idempotency_key": key})


def send_alert(event: Mapping[str, Any]) -> Call[Any]:
    """Send an event that is ready to the connection's alert source, and read only how the alert stands.

    https://docs.incident.io/api-reference/alert-events-v2/create-http
    """
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
