"""The sandbox's memory: incidents, the keys that opened them, and who wants to hear of changes.

Every method may be called from any thread.
"""

import collections
import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Literal

from . import alerts, attachments, changes, first_version, incidents
from .catalogue import Catalogue
from .options import Options
from .refusals import JsonObject, conflict, forbidden, invalid, not_found, problem

FLOW_ROLE = "post_incident_flow_opt_out"
Version = Literal["v1", "v2"]
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
    """An incident in v2's words, what opened it, and what was added since."""

    incident: JsonObject
    # The body of the create, or the alert event, that opened it.
    request: JsonObject
    answer: JsonObject
    opened_by: Version | Literal["alert"]
    opened_at: float
    repeats: int = 0
    attachments: list[JsonObject] = dataclasses.field(default_factory=list)
    updates: list[JsonObject] = dataclasses.field(default_factory=list)
    alert: JsonObject | None = None

    def shown(self, version: Version) -> JsonObject:
        """Return the incident as this version of the API shows it."""
        return first_version.shown(self.incident) if version == "v1" else self.incident


# What listeners hear: an incident that is new or changed, that all are forgotten, that the sandbox stops.
Change = Opened | Literal["cleared", "ended"]


class Store:
    """Incidents by ID, oldest first, and by idempotency key."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.catalogue = Catalogue()
        self.base_url = ""
        # May change while it runs.
        self.v1_removed = options.v1_removed
        self.demand_severity = options.demand_severity
        self.alert_source_removed = False
        self._requests: collections.deque[Recorded] = collections.deque(maxlen=KEPT)
        self._lock = threading.RLock()
        self._opened: list[Opened] = []
        self._by_key: dict[tuple[str, str], Opened] = {}
        self._by_alert: dict[str, Opened] = {}
        self._count = 0
        self._listeners: list[Callable[[Change], None]] = []
        self._ended = False

    def create(self, payload: JsonObject, version: Version) -> JsonObject:
        """Open an incident, or answer a repeated key as the options say."""
        key = ("any" if self.options.shared_keys else version, payload["idempotency_key"])
        with self._lock:
            first = self._by_key.get(key)
            if first is not None and not self._expired(first):
                first.repeats += 1
                self._tell(first)
                return self._repeat(first, key[1]).shown(version)
            asked = first_version.to_second(payload, self.catalogue) if version == "v1" else payload
            incident = self._build(asked, incidents.CREATOR)
            opened = Opened(incident, payload, {}, version, self.options.clock())
            opened.answer = {"incident": opened.shown(version)}
            self._by_key[key] = opened
            self._keep(opened)
            return opened.shown(version)

    def _build(self, asked: JsonObject, creator: JsonObject) -> JsonObject:
        number = asked.get("retrospective_incident_options", {}).get("external_id")
        if number is not None and self.has(f"INC-{number}"):
            path = ("retrospective_incident_options", "external_id")
            raise invalid([problem("already_used", f"INC-{number} exists already", *path)])
        while number is None:
            self._count += 1
            number = None if self.has(f"INC-{self._count}") else self._count
        now = self.options.clock()
        return incidents.build(asked, self.catalogue, number, now, base_url=self.base_url, creator=creator)

    def _keep(self, opened: Opened) -> None:
        """Remember an incident that is new."""
        self._opened.append(opened)
        self._note(opened, None)
        self._tell(opened)

    def _note(self, opened: Opened, before: JsonObject | None) -> None:
        """Write down the update that a change of status or severity is."""
        update = changes.update(before, opened.incident, incidents.CREATOR, self.options.clock())
        if update is not None:
            opened.updates.append(update)

    def _expired(self, first: Opened) -> bool:
        age = self.options.clock() - first.opened_at
        return self.options.repeat == "expires" and age >= self.options.expires_after

    def _repeat(self, first: Opened, key: str) -> Opened:
        told = f"The idempotency key {key!r} has already been used for {first.incident['reference']}"
        if self.options.repeat == "conflict":
            raise conflict(told)
        if self.options.repeat == "rejected":
            raise invalid([problem("already_used", told, "idempotency_key")])
        return first

    def edit(self, incident_id: str, edit: JsonObject) -> JsonObject:
        """Change what a valid edit gives, if the incident's status allows it."""
        with self._lock:
            opened = self.show(incident_id)
            changes.check(opened.incident, edit, self.catalogue)
            skips = changes.skips_the_flow(opened.incident, edit, self.catalogue)
            if skips and self.options.post_incident_flow and FLOW_ROLE not in self.options.roles:
                raise forbidden(FLOW_ROLE)
            return self._change(opened, incidents.edit(opened.incident, edit, self.catalogue, self.options.clock()))

    def move(self, reference: str, category: str, name: str = "") -> JsonObject:
        """Put an incident into a status, as a person would: no rule of the API holds."""
        with self._lock:
            opened = self.show(reference)
            status = self.catalogue.status_in(category, name.lower())
            if opened.incident["incident_status"]["id"] == status["id"]:
                return opened.incident
            return self._change(opened, incidents.moved(opened.incident, status, self.options.clock()))

    def _change(self, opened: Opened, incident: JsonObject) -> JsonObject:
        before, opened.incident = opened.incident, incident
        self._note(opened, before)
        self._tell(opened)
        return incident

    def alert(self, event: JsonObject) -> None:
        """Fire or resolve an alert; a new one opens an incident by the alert route.

        A key whose alert is resolved fires a new one: https://docs.incident.io/alerts/deduplication
        """
        key = event["deduplication_key"]
        with self._lock:
            opened = self._by_alert.get(key)
            now = self.options.clock()
            is_active = opened is not None and opened.alert is not None and opened.alert["status"] == "firing"
            if not is_active and event["status"] == "firing":
                alert = alerts.fired(event, now)
                incident = self._build(alerts.routed(alert), alerts.creator(alert))
                opened = Opened(incident, event, {"incident": incident}, "alert", now, alert=alert)
                self._by_alert[key] = opened
                self._keep(opened)
            elif opened and opened.alert and event["status"] == "resolved" != opened.alert["status"]:
                opened.alert = alerts.resolved(opened.alert, now)
                self._tell(opened)

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

    def detach(self, attachment_id: str) -> None:
        """Take a link away again."""
        with self._lock:
            for opened in self._opened:
                kept = [row for row in opened.attachments if row["id"] != attachment_id]
                if len(kept) < len(opened.attachments):
                    opened.attachments = kept
                    self._tell(opened)
                    return
        raise not_found(f"The attachment {attachment_id!r}")

    def has(self, reference: str) -> bool:
        """Tell whether there is an incident with this ID or reference."""
        return any(reference in (row.incident["id"], row.incident["reference"]) for row in self.all())

    def all(self) -> list[Opened]:
        """Return everything, oldest first."""
        with self._lock:
            return list(self._opened)

    def alerts(self) -> list[JsonObject]:
        """Return every alert with the incident it opened, oldest first."""
        return [row.alert | {"incident_id": row.incident["id"]} for row in self.all() if row.alert]

    def requests(self) -> list[Recorded]:
        """Return the API requests so far, oldest first."""
        with self._lock:
            return list(self._requests)

    def record(self, request: Recorded) -> None:
        """Keep a request for whoever asks what was sent."""
        with self._lock:
            self._requests.append(request)

    def clear(self) -> None:
        """Forget incidents, alerts, keys and requests; references start at INC-1 again."""
        with self._lock:
            self._opened.clear()
            self._by_key.clear()
            self._by_alert.clear()
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
