"""The pretend organisation: what names and IDs its incidents can refer to, as the API spells them."""

import copy
from typing import Any

from .errors import JsonObject

SINCE = "2026-01-05T09:00:00Z"


def fixed_id(kind: str, number: int) -> str:
    """Return an ID that looks like a ULID and is the same in every run."""
    return "01SANDB0X" + kind + f"{number:0{17 - len(kind)}}"


def row(kind: str, number: int, name: str, **more: Any) -> JsonObject:
    """Return what has an ID, a name, and two moments."""
    return {"id": fixed_id(kind, number), "name": name, **more, "created_at": SINCE, "updated_at": SINCE}


def severity(rank: int, name: str, description: str) -> JsonObject:
    """Return a severity; a lower rank is less severe."""
    return row("SEV", rank, name, description=description, rank=rank)


def incident_type(number: int, name: str, description: str, *, private: bool = False) -> JsonObject:
    """Return an incident type; a private one takes private incidents only."""
    more = {"private_incidents_only": private, "create_in_triage": "optional"}
    return row("TYP", number, name, description=description, is_default=number == 1, **more)


def role(number: int, role_type: str, name: str, shortform: str, description: str) -> JsonObject:
    """Return a role; `role_type` is lead, reporter or custom."""
    instructions = "" if role_type == "reporter" else "Say in the channel that it is yours."
    more = {"instructions": instructions, "role_type": role_type, "required": False}
    return row("ASG", number, name, shortform=shortform, description=description, **more)


def status(number: int, category: str, name: str, description: str) -> JsonObject:
    """Return a status of one of the categories in `CATEGORIES`."""
    return row("STS", number, name, description=description, category=category, rank=10 * number)


def option(field_number: int, place: int, value: str) -> JsonObject:
    """Return one option of a custom field."""
    return {
        "id": fixed_id("CPT", 1_000_000 * field_number + place),
        "custom_field_id": fixed_id("CFD", field_number),
        "value": value,
        "sort_key": 10 * place,
    }


def custom_field(number: int, field_type: str, name: str, description: str, *options: str) -> JsonObject:
    """Return a custom field; a select without options takes its values from the catalogue's entries."""
    rows = [option(number, place, value) for place, value in enumerate(options, 1)]
    field = row("CFD", number, name, description=description, field_type=field_type, options=rows)
    is_catalog = field_type.endswith("_select") and not options
    return field | ({"catalog_type_id": fixed_id("CTG", 1)} if is_catalog else {})


def user(number: int, name: str, role: str, *, is_active: bool = True) -> JsonObject:
    """Return a person; one who left is not active."""
    return {
        "id": fixed_id("PRS", number),
        "name": name,
        "email": f"{name.split(maxsplit=1)[0].lower()}@example.com",
        "slack_user_id": f"U0SANDBOX{number}",
        "role": role,
        "is_active": is_active,
    }


def alert_route(name: str, **when: str) -> JsonObject:
    """Return an alert route, which takes an alert whose metadata has these values, each as it is or in a list."""
    return {"name": name, "when": when}


SEVERITIES = [
    severity(1, "Minor", "Can wait for working hours."),
    severity(2, "Major", "People notice, someone should look now."),
    severity(3, "Critical", "Much is broken, all hands."),
]
INCIDENT_TYPES = [
    incident_type(1, "Default", "Anything that has no type of its own."),
    incident_type(2, "Data pipeline", "Data is late, missing or wrong."),
    incident_type(3, "Security", "For invited people only.", private=True),
]
ROLES = [
    role(1, "lead", "Incident Lead", "lead", "Makes the decisions."),
    role(2, "reporter", "Reporter", "", "Opened the incident."),
    role(3, "custom", "Communications Lead", "comms", "Tells everybody else."),
]
USERS = [
    user(1, "Alice Archer", "owner"),
    user(2, "Bob Baker", "responder"),
    user(3, "Chloe Carter", "responder"),
    user(4, "Dora Drake", "responder", is_active=False),
]
MODES = ("standard", "retrospective", "test", "tutorial")
CATEGORIES = ("triage", "live", "learning", "paused", "closed", "declined", "canceled", "merged")
STATUSES = [
    status(1, "triage", "Triage", "Nobody has looked yet."),
    status(2, "live", "Investigating", "Finding out what is wrong."),
    status(3, "live", "Fixing", "Known, and being mended."),
    status(4, "live", "Monitoring", "Mended, and being watched."),
    status(5, "paused", "Paused", "Goes on another day."),
    status(6, "learning", "Post-incident", "Over, and being written up."),
    status(7, "closed", "Closed", "Nothing is left to do."),
    status(8, "declined", "Declined", "Was no incident."),
    status(9, "canceled", "Canceled", "Turned out to be no incident."),
    status(10, "merged", "Merged", "Goes on as part of another."),
]
TIMESTAMPS = [
    {"id": fixed_id("TMP", rank), "name": name, "rank": rank}
    for rank, name in enumerate(("Reported at", "Accepted at", "Closed at"), 1)
]
CUSTOM_FIELDS = [
    custom_field(1, "single_select", "Affected team", "Whose data it is.", "Product", "Finance", "Marketing"),
    custom_field(2, "multi_select", "Data products", "What is late.", "Orders", "Invoices", "Clicks"),
    custom_field(3, "text", "Notes", "Anything worth knowing."),
    custom_field(4, "link", "Runbook", "What to do about it."),
    custom_field(5, "numeric", "Rows affected", "How many."),
    custom_field(6, "single_select", "Service", "Taken from the catalogue of services."),
]
# A select field without options of its own takes its values from the catalogue.
CATALOGUE_ENTRIES = [
    {"id": fixed_id("ENT", 1), "name": "Warehouse", "external_id": "warehouse", "aliases": ["dwh"]},
    {"id": fixed_id("ENT", 2), "name": "Billing", "external_id": "billing", "aliases": []},
]
# The first one that takes an alert has it.
ALERT_ROUTES = [alert_route("Wake somebody", severity="Critical"), alert_route("Working hours")]


class Catalogue:
    """One sandbox's own copy of all this, in plain lists that a test may change.

    `box.catalogue.severities.append(catalogue.severity(4, "MAJOR", "Shouted."))`
    """

    def __init__(self) -> None:
        self.severities = copy.deepcopy(SEVERITIES)
        self.incident_types = copy.deepcopy(INCIDENT_TYPES)
        self.statuses = copy.deepcopy(STATUSES)
        self.timestamps = copy.deepcopy(TIMESTAMPS)
        self.roles = copy.deepcopy(ROLES)
        self.users = copy.deepcopy(USERS)
        self.custom_fields = copy.deepcopy(CUSTOM_FIELDS)
        self.entries = copy.deepcopy(CATALOGUE_ENTRIES)
        self.alert_routes = copy.deepcopy(ALERT_ROUTES)

    def find_user(self, reference: JsonObject) -> JsonObject | None:
        """Return the user that an id, an email address or a Slack user ID means."""
        keys = [key for key in ("id", "email", "slack_user_id") if key in reference]
        return next((row for row in self.users if keys and all(row.get(k) == reference[k] for k in keys)), None)

    def find_entry(self, reference: str) -> JsonObject | None:
        """Return the catalogue entry with this ID, external ID or alias."""
        known = (row for row in self.entries if reference in (row["id"], row["external_id"], *row["aliases"]))
        return next(known, None)

    def route_of(self, metadata: JsonObject) -> JsonObject | None:
        """Return the alert route that takes an alert with this metadata."""
        return next(
            (row for row in self.alert_routes if all(_has(metadata, *pair) for pair in row["when"].items())), None
        )

    def status_in(self, category: str, name: str = "") -> JsonObject:
        """Return the status of this category and name, or else the category's first."""
        rows = [row for row in self.statuses if row["category"] == category]
        return next((row for row in rows if row["name"].lower() == name), rows[0])


def _has(metadata: JsonObject, name: str, value: str) -> bool:
    given = metadata.get(name)
    return value in given if isinstance(given, list) else value == given


def by_id(rows: list[JsonObject], wanted: str) -> JsonObject | None:
    """Return the row with this ID."""
    return next((row for row in rows if row["id"] == wanted), None)
