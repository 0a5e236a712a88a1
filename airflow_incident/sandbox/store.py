"""The sandbox's memory: incidents, the keys that opened them, and who wants to hear of changes.

Every method may be called from any thread.
"""

import collections
import dataclasses
import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal

from . import attachments, incidents
from .options import Options
from .refusals import JsonObject, conflict, invalid, not_found, problem

KEY_NAME = "Sandbox key"
# A sandbox may run for days: older requests are forgotten.
KEPT = 5000


@dataclasses.dataclass(frozen=True)
class Recorded:
    """One API request, as it came in, and what was answered."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    raw: bytes
    body: Any
    status: int
    answer: Any
    # Paths of properties that the API does not know and ignored.
    warnings: list[str]


@dataclasses.dataclass
class Opened:
    """An incident, the request that opened it, and how often its key came again."""

    incident: JsonObject
    request: JsonObject
    answer: JsonObject
    opened_at: float
    repeats: int = 0
    attachments: list[JsonObject] = dataclasses.field(default_factory=list)


# What listeners hear: an incident that is new or changed, that all are forgotten, that the sandbox stops.
Change = Opened | Literal["cleared", "ended"]


class Store:
    """Incidents by ID, oldest first, and by idempotency key."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.base_url = ""
        self._requests: collections.deque[Recorded] = collections.deque(maxlen=KEPT)
        self._lock = threading.RLock()
        self._opened: list[Opened] = []
        self._by_key: dict[str, Opened] = {}
        self._count = 0
        self._listeners: list[Callable[[Change], None]] = []
        self._ended = False

    def create(self, payload: JsonObject) -> JsonObject:
        """Open an incident, or answer a repeated key as the options say."""
        key = payload["idempotency_key"]
        with self._lock:
            now = self.options.clock()
            first = self._by_key.get(key)
            if first is not None and not self._expired(first, now):
                first.repeats += 1
                self._tell(first)
                return self._repeat(first, key)
            self._count += 1
            incident = incidents.build(payload, self._count, now, self.base_url, KEY_NAME)
            opened = Opened(incident, payload, {"incident": incident}, now)
            self._opened.append(opened)
            self._by_key[key] = opened
            self._tell(opened)
            return incident

    def _expired(self, first: Opened, now: float) -> bool:
        return self.options.repeat == "expires" and now - first.opened_at >= self.options.expires_after

    def _repeat(self, first: Opened, key: str) -> JsonObject:
        told = f"The idempotency key {key!r} has already been used for {first.incident['reference']}"
        if self.options.repeat == "conflict":
            raise conflict(told)
        if self.options.repeat == "rejected":
            raise invalid([problem("already_used", told, "idempotency_key")])
        return first.incident

    def close(self, reference: str) -> JsonObject:
        """Close an incident as a person would."""
        with self._lock:
            opened = self.show(reference)
            if opened.incident["status"] != "closed":
                opened.incident = incidents.closed(opened.incident, self.options.clock())
                self._tell(opened)
            return opened.incident

    def show(self, reference: str) -> Opened:
        """Return the incident with this ID or reference."""
        with self._lock:
            for opened in self._opened:
                if reference in (opened.incident["id"], opened.incident["reference"]):
                    return opened
        raise not_found(f"The incident {reference!r}")

    def attach(self, body: JsonObject) -> JsonObject:
        """Attach a link to an incident."""
        with self._lock:
            opened = self.show(body["incident_id"])
            attachment = attachments.build(body, self.options.clock())
            opened.attachments.append(attachment)
            self._tell(opened)
            return attachment

    def has(self, reference: str) -> bool:
        """Tell whether there is an incident with this ID or reference."""
        return any(reference in (row.incident["id"], row.incident["reference"]) for row in self.all())

    def all(self) -> list[Opened]:
        """Return everything, oldest first."""
        with self._lock:
            return list(self._opened)

    def page(self, size: int, after: str | None, statuses: Iterable[str]) -> tuple[list[JsonObject], str | None, int]:
        """Return one page, newest first, the ID to continue after, and the number of all matches."""
        wanted = set(statuses)
        rows = [row.incident for row in reversed(self.all())]
        matches = [row for row in rows if not wanted or row["status"] in wanted]
        start = 0
        if after is not None:
            # The record itself may have left the filter since: find its place among all.
            places = [place for place, row in enumerate(rows) if row["id"] == after]
            if not places:
                raise invalid([problem("not_found", "there is no such incident", "after")])
            later = {row["id"] for row in rows[places[0] + 1 :]}
            start = sum(row["id"] not in later for row in matches)
        chosen = matches[start : start + size]
        more = start + size < len(matches)
        return chosen, chosen[-1]["id"] if more else None, len(matches)

    def requests(self) -> list[Recorded]:
        """Return the API requests so far, oldest first."""
        with self._lock:
            return list(self._requests)

    def record(self, request: Recorded) -> None:
        """Keep a request for whoever asks what was sent."""
        with self._lock:
            self._requests.append(request)

    def clear(self) -> None:
        """Forget incidents, keys and requests; references start at INC-1 again."""
        with self._lock:
            self._opened.clear()
            self._by_key.clear()
            self._requests.clear()
            self._count = 0
            self._tell("cleared")

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` with every change until the returned function is called."""
        with self._lock:
            self._listeners.append(listener)
            if self._ended:
                listener("ended")
        return lambda: self._listeners.remove(listener)

    def end(self) -> None:
        """Tell every listener that nothing more will come."""
        with self._lock:
            self._ended = True
            self._tell("ended")

    def _tell(self, change: Change) -> None:
        for listener in tuple(self._listeners):
            listener(change)
