"""The endpoints of what incidents refer to: severities, types, statuses, roles, people, custom fields.

https://docs.incident.io/api-reference
"""

from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.responses import Response

from . import asking
from .catalogue import Catalogue, by_id, fixed_id
from .gate import Reply
from .incidents import pick
from .refusals import JsonObject, invalid, not_found, problem
from .store import Store

Rows = Callable[[Catalogue], list[JsonObject]]
USERS_ASKED = 10_000
ROLE_NAMES = (
    "id",
    "name",
    "description",
    "instructions",
    "role_type",
    "shortform",
    "created_at",
    "updated_at",
)
FIELD_NAMES = ("id", "name", "description", "field_type", "catalog_type_id", "created_at", "updated_at")

# Path -> the names of the list and of one row, and where the rows are.
LISTS: dict[str, tuple[str, str, Rows]] = {
    "/v1/severities": ("severities", "severity", lambda known: known.severities),
    "/v1/incident_types": ("incident_types", "incident_type", lambda known: known.incident_types),
    "/v1/incident_statuses": ("incident_statuses", "incident_status", lambda known: known.statuses),
    "/v2/incident_roles": (
        "incident_roles",
        "incident_role",
        lambda known: [pick(row, ROLE_NAMES) for row in known.roles],
    ),
    "/v2/custom_fields": (
        "custom_fields",
        "custom_field",
        lambda known: [pick(row, FIELD_NAMES) for row in known.custom_fields],
    ),
}


def lists(store: Store) -> APIRouter:
    """Return the endpoints that list and show."""
    router = APIRouter()
    for path, (many, one, rows) in LISTS.items():
        _add(router, store, path, many, one, rows)

    @router.get("/v2/incident_timestamps")
    async def timestamps() -> Response:
        asking.demand(store, "viewer")
        return Reply({"incident_timestamps": store.catalogue.timestamps})

    @router.get("/v1/custom_field_options")
    async def options(request: Request) -> Response:
        asking.demand(store, "viewer")
        wanted = request.query_params.get("custom_field_id")
        if not wanted:
            raise invalid([problem("is_required", "custom_field_id is required", "custom_field_id")])
        field = by_id(store.catalogue.custom_fields, wanted)
        if field is None:
            raise not_found(f"The custom field {wanted!r}")
        return Reply(asking.one_page(request, "custom_field_options", field["options"]))

    @router.get("/v2/users")
    async def users(request: Request) -> Response:
        asking.demand(store, "viewer")
        return Reply(asking.one_page(request, "users", _users(request, store.catalogue), USERS_ASKED))

    return router


def _add(router: APIRouter, store: Store, path: str, many: str, one: str, rows: Rows) -> None:
    """Add a list without pages, and the showing of one row."""

    @router.get(path)
    async def index() -> Response:
        asking.demand(store, "viewer")
        return Reply({many: rows(store.catalogue)})

    @router.get(f"{path}/{{row_id}}")
    async def show(row_id: str) -> Response:
        asking.demand(store, "viewer")
        row = by_id(rows(store.catalogue), row_id)
        if row is None:
            raise not_found(f"The {one} {row_id!r}")
        return Reply({one: row})


def _users(request: Request, known: Catalogue) -> list[JsonObject]:
    query = request.query_params
    inactive = query.get("include_inactive") or "false"
    if inactive not in ("true", "false"):
        raise invalid([problem("invalid_value", "must be true or false", "include_inactive")])
    email, slack = (query.get(name) or None for name in ("email", "slack_user_id"))
    return [
        _with_roles(row)
        for row in known.users
        if (inactive == "true" or row.get("is_active", True))
        and (email is None or row.get("email", "").lower() == email.lower())
        and slack in (None, row.get("slack_user_id"))
    ]


def _with_roles(user: JsonObject) -> JsonObject:
    """Return a user as the list has it: with what the person may do."""
    slug = user["role"]
    base = {"id": fixed_id("RBC", 1), "name": slug.title(), "slug": slug}
    seats = {"on_call": "none", "response": "full_access"}
    return {"is_active": True, **user, "base_role": base, "custom_roles": [], "seats": seats}
