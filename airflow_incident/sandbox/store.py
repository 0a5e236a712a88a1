"""The sandbox's memory: incidents, the keys that opened them, and who listens for changes.

Every method may be called from any thread.
"""

import collections
import dataclasses
import json
import shlex
import threading
from collections.abc import Callable
from typing import Any, Literal

from . import incidents
from .catalogue import Catalogue, by_id
from .errors import ApiError, JsonObject, forbidden, invalid, not_found, problem
from .incidents import Version, pick, rfc3339
from .options import Options

FLOW_ROLE = "post_incident_flow_opt_out"
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
    # Pointers to properties that the API does not know and ignored.
    warnings: list[str]


@dataclasses.dataclass
class StoredIncident:
    """An incident in v2's words, what opened it, and what was added since."""

    incident: JsonObject
    # The body of the create, or the alert event, that opened it.
    request: JsonObject
    opened_by: Version | Literal["alert"]
    opened_at: float
    answer: JsonObject
    alert: JsonObject | None = None
    # What became of it last, in a word or two.
    last_event: str = "opened"
    repeats: int = 0
    attachments: list[JsonObject] = dataclasses.field(default_factory=list)
    updates: list[JsonObject] = dataclasses.field(default_factory=list)

    def shown(self, version: Version) -> JsonObject:
        """Return the incident as this version of the API shows it."""
        return incidents.shown(self.incident, version)


# What listeners are called with: an incident that is new or changed, that all are forgotten, that the sandbox stops.
Change = StoredIncident | Literal["cleared", "ended"]


class Store:
    """Incidents, oldest first, and by what opened them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.api_key = options.api_key
        self.catalogue = Catalogue()
        self.base_url = ""
        # May be set while it runs.
        self.v1_removed = options.v1_removed
        self.demand_severity = options.demand_severity
        self.alert_source_removed = False
        self._requests: collections.deque[Recorded] = collections.deque(maxlen=KEPT)
        self._lock = threading.RLock()
        self._opened: list[StoredIncident] = []
        # By version and idempotency key, or "alert" and deduplication key.
        self._by_key: dict[tuple[str, str], StoredIncident] = {}
        self._count = 0
        self._listeners: list[Callable[[Change], None]] = []
        self._ended = False

    def create(self, payload: JsonObject, version: Version) -> JsonObject:
        """Open an incident, or answer a repeated key as the options say."""
        key = ("any" if self.options.shared_keys else version, payload["idempotency_key"])
        with self._lock:
            first = self._by_key.get(key)
            if first is not None and not self._is_expired(first):
                first.repeats += 1
                self._notify(first, "repeated")
                self._refuse_repeat(first, key[1])
                return first.shown(version)
            asked = incidents.from_v1(payload, self.catalogue) if version == "v1" else payload
            incident = self._build(asked, incidents.CREATOR)
            shown = incidents.shown(incident, version)
            self._keep(key, StoredIncident(incident, payload, version, self.options.clock(), {"incident": shown}))
            return shown

    def _build(self, asked: JsonObject, creator: JsonObject) -> JsonObject:
        number = asked.get("retrospective_incident_options", {}).get("external_id")
        if number is not None and self.find(f"INC-{number}"):
            path = ("retrospective_incident_options", "external_id")
            raise invalid(problem("already_used", f"INC-{number} exists already", *path))
        while number is None:
            self._count += 1
            number = None if self.find(f"INC-{self._count}") else self._count
        now = self.options.clock()
        return incidents.build(asked, self.catalogue, number, now, base_url=self.base_url, creator=creator)

    def _keep(self, key: tuple[str, str], opened: StoredIncident) -> None:
        """Remember an incident that is new."""
        self._by_key[key] = opened
        self._opened.append(opened)
        self._note_update(opened)
        self._notify(opened)

    def _note_update(self, opened: StoredIncident) -> None:
        """Write down that an incident has a new status or severity."""
        incident = opened.incident
        severity = {"new_severity": incident["severity"]} if "severity" in incident else {}
        update = severity | {
            "id": incidents.ulid(self.options.clock()),
            "incident_id": incident["id"],
            "created_at": incident["updated_at"],
            "new_incident_status": incident["incident_status"],
            "updater": incidents.CREATOR,
        }
        opened.updates.append(update)

    def _is_expired(self, first: StoredIncident) -> bool:
        age = self.options.clock() - first.opened_at
        return self.options.repeat == "expires" and age >= self.options.expires_after

    def _refuse_repeat(self, first: StoredIncident, key: str) -> None:
        message = f"The idempotency key {key!r} has already been used for {first.incident['reference']}"
        if self.options.repeat == "conflict":
            raise ApiError(409, problem("conflict", message, "idempotency_key"))
        if self.options.repeat == "rejected":
            raise invalid(problem("already_used", message, "idempotency_key"))

    def edit(self, incident_id: str, edit: JsonObject) -> JsonObject:
        """Change what a valid edit gives, if the incident's status allows it."""
        with self._lock:
            opened = self.show(incident_id)
            incidents.check_edit(opened.incident, edit, self.catalogue)
            self._check_flow(opened.incident, edit)
            now = self.options.clock()
            return self._change(opened, incidents.edited(opened.incident, edit, self.catalogue, now))

    def _check_flow(self, incident: JsonObject, edit: JsonObject) -> None:
        """Refuse to close an incident that a post-incident flow should close."""
        wanted = by_id(self.catalogue.statuses, edit.get("incident_status_id", ""))
        closes = wanted is not None and wanted["category"] == "closed"
        skips = closes and incident["incident_status"]["category"] in ("live", "learning")
        if skips and self.options.post_incident_flow and FLOW_ROLE not in self.options.roles:
            raise forbidden(f"This API key lacks the role {FLOW_ROLE}")

    def move(self, reference: str, category: str, name: str = "") -> JsonObject:
        """Put an incident into a status, as a person would, and return it as v2 shows it: no rule of the API holds.

        :param category: triage, live, learning, paused, closed, declined, canceled or merged.
        :param name: which of the category's statuses; without it the first.
        """
        with self._lock:
            opened = self.show(reference)
            status = self.catalogue.status_in(category, name.lower())
            if opened.incident["incident_status"]["id"] == status["id"]:
                return opened.incident
            return self._change(opened, incidents.moved(opened.incident, status, self.options.clock()))

    def close(self, reference: str) -> JsonObject:
        """Close an incident, as a person would, and return it as v1 shows it."""
        return incidents.shown(self.move(reference, "closed"), "v1")

    def _change(self, opened: StoredIncident, incident: JsonObject) -> JsonObject:
        before, opened.incident = opened.incident, incident
        status = incident["incident_status"]
        is_moved = before["incident_status"] != status
        if is_moved or before.get("severity") != incident.get("severity"):
            self._note_update(opened)
        self._notify(opened, status["name"].lower() if is_moved else "changed")
        return incident

    def alert(self, event: JsonObject) -> None:
        """Fire or resolve an alert; a new one opens an incident by the alert route.

        A key whose alert is resolved fires a new one: https://docs.incident.io/alerts/deduplication
        """
        key = ("alert", event["deduplication_key"])
        with self._lock:
            opened = self._by_key.get(key)
            alert = opened.alert if opened else None
            now = self.options.clock()
            is_firing = alert is not None and alert["status"] == "firing"
            if event["status"] == "firing" and not is_firing:
                self._fire(key, event, now)
            elif event["status"] == "resolved" and is_firing and opened and alert:
                opened.alert = alert | {"status": "resolved", "resolved_at": rfc3339(now)}
                self._notify(opened, "alert resolved")

    def _fire(self, key: tuple[str, str], event: JsonObject, now: float) -> None:
        given = ("title", "deduplication_key", "description", "source_url", "metadata")
        alert = {"id": incidents.ulid(now), "status": "firing", "created_at": rfc3339(now)} | pick(event, given)
        summary = {"summary": event["description"]} if "description" in event else {}
        create = {"visibility": "public", "name": event["title"]} | summary
        incident = self._build(create, {"alert": pick(alert, ("id", "title"))})
        self._keep(key, StoredIncident(incident, event, "alert", now, {"incident": incident}, alert))

    def show(self, reference: str) -> StoredIncident:
        """Return the incident with this ID or reference."""
        opened = self.find(reference)
        if opened is None:
            raise not_found(f"The incident {reference!r}")
        return opened

    def attach(self, body: JsonObject) -> JsonObject:
        """Attach a link to an incident."""
        with self._lock:
            opened = self.show(body["incident_id"])
            attachment = incidents.attachment(body, self.options.clock())
            opened.attachments.append(attachment)
            self._notify(opened, "changed")
            return attachment

    def detach(self, attachment_id: str) -> None:
        """Take a link away again."""
        with self._lock:
            for opened in self._opened:
                kept = [row for row in opened.attachments if row["id"] != attachment_id]
                if len(kept) < len(opened.attachments):
                    opened.attachments = kept
                    self._notify(opened, "changed")
                    return
        raise not_found(f"The attachment {attachment_id!r}")

    def find(self, reference: str) -> StoredIncident | None:
        """Return the incident with this ID or reference, if there is one."""
        return next((it for it in self.all() if reference in (it.incident["id"], it.incident["reference"])), None)

    def all(self) -> list[StoredIncident]:
        """Return everything, oldest first."""
        with self._lock:
            return list(self._opened)

    @property
    def incidents(self) -> list[JsonObject]:
        """The incidents as v1 shows them, oldest first."""
        return [opened.shown("v1") for opened in self.all()]

    @property
    def incidents_v2(self) -> list[JsonObject]:
        """The incidents as v2 shows them, whichever version opened them, oldest first."""
        return [opened.incident for opened in self.all()]

    @property
    def alerts(self) -> list[JsonObject]:
        """The alerts of the alert source, each with the ID of the incident it opened, oldest first."""
        return [row.alert | {"incident_id": row.incident["id"]} for row in self.all() if row.alert]

    @property
    def requests(self) -> list[Recorded]:
        """The API requests so far, oldest first."""
        with self._lock:
            return list(self._requests)

    def record(self, request: Recorded) -> None:
        """Keep a request for whoever asks what was sent."""
        with self._lock:
            self._requests.append(request)

    def clear(self) -> None:
        """Forget incidents, alerts, keys and requests, but not the catalogue; references start at INC-1 again."""
        with self._lock:
            self._opened.clear()
            self._by_key.clear()
            self._requests.clear()
            self._count = 0
            self._notify("cleared")

    def connection_json(self) -> str:
        """Return the value of AIRFLOW_CONN_INCIDENT_IO_DEFAULT that leads Airflow here."""
        return json.dumps({"conn_type": "incident_io", "password": self.api_key, "host": self.base_url})

    def connection_line(self) -> str:
        """Return the assignment that a shell can take: AIRFLOW_CONN_INCIDENT_IO_DEFAULT='…'."""
        return f"AIRFLOW_CONN_INCIDENT_IO_DEFAULT={shlex.quote(self.connection_json())}"

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
            self._notify("ended")

    def _notify(self, change: Change, last_event: str = "opened") -> None:
        if isinstance(change, StoredIncident):
            change.last_event = last_event
        for listener in tuple(self._listeners):
            listener(change)
