"""Alert events, the alerts they fire and resolve, and the incident that the alert route opens for one.

https://docs.incident.io/api-reference/alert-events-v2/create-http
"""

from . import incidents
from .refusals import JsonObject
from .shape import Known, Shape

EVENT: Known = {
    "title": "string",
    "status": ("firing", "resolved"),
    "deduplication_key": "string",
    "description": "string",
    "source_url": "string",
    "metadata": "object",
}
REQUIRED = ("title", "status", "deduplication_key")


def check(event: JsonObject) -> list[str]:
    """Return the unknown properties of an event, or refuse with every problem found."""
    shape = Shape()
    shape.nulls(event)
    if not shape.errors:
        shape.object(event, (), EVENT, REQUIRED)
    return shape.done()


def fired(event: JsonObject, now: float) -> JsonObject:
    """Return the alert that a first firing event opens."""
    names = ("title", "deduplication_key", "description", "source_url", "metadata")
    moment = incidents.rfc3339(now)
    return {"id": incidents.ulid(now), "status": "firing", "created_at": moment} | incidents.pick(event, names)


def resolved(alert: JsonObject, now: float) -> JsonObject:
    """Return the alert as it is once it has ended."""
    return {**alert, "status": "resolved", "resolved_at": incidents.rfc3339(now)}


def routed(alert: JsonObject) -> JsonObject:
    """Return the create that the sandbox's alert route makes of an alert."""
    summary = {"summary": alert["description"]} if "description" in alert else {}
    return {"visibility": "public", "name": alert["title"]} | summary


def creator(alert: JsonObject) -> JsonObject:
    """Return the alert as the creator of its incident."""
    return {"alert": incidents.pick(alert, ("id", "title"))}
