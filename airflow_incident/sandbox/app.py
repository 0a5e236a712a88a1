"""The sandbox's application: every endpoint of the API that it has, and the page, behind one gate.

https://docs.incident.io/api-reference
"""

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from . import incidents, listing, validation
from .catalogue import by_id, fixed_id
from .errors import ApiError, JsonObject, forbidden, invalid, not_found, problem
from .gate import ALERTS, AsciiResponse, Gate, error_response
from .incidents import Version, pick
from .listing import PAGE_ASKED
from .store import Store, StoredIncident
from .validation import Schema
from .view import pages

_ROLE = ("id", "name", "description", "instructions", "role_type", "shortform", "created_at", "updated_at")
_FIELD = ("id", "name", "description", "field_type", "catalog_type_id", "created_at", "updated_at")
# Path -> the names of the list and of one row, where the rows are, and what is shown of one (nothing named: all).
LISTS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "/v1/severities": ("severities", "severity", "severities", ()),
    "/v1/incident_types": ("incident_types", "incident_type", "incident_types", ()),
    "/v1/incident_statuses": ("incident_statuses", "incident_status", "statuses", ()),
    "/v2/incident_roles": ("incident_roles", "incident_role", "roles", _ROLE),
    "/v2/custom_fields": ("custom_fields", "custom_field", "custom_fields", _FIELD),
}
USERS_ASKED = 10_000


def build(store: Store) -> FastAPI:
    """Return the whole application over one store; the gate checks the key before any endpoint does its work."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for routes in (incident_lists, catalogue_lists, paged_lists, creates, edits, without_role, pages):
        app.include_router(routes(store))
    app.middleware("http")(Gate(store))
    app.add_exception_handler(HTTPException, _no_route)
    return app


async def _no_route(request: Request, error: Exception) -> Response:
    """Answer an unknown path (404) or method (405) as the API does."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    if error.status_code == 404:  # noqa: PLR2004 - the protocol's own number
        return error_response(not_found(f"The path {request.url.path!r}"))
    wrong = problem("method_not_allowed", f"{request.method} is not possible here")
    return error_response(ApiError(error.status_code, wrong, headers=dict(error.headers or {})))


def _router(store: Store, role: str) -> APIRouter:
    """Return a router whose endpoints refuse a key that lacks the role."""

    async def require() -> None:
        if role not in store.options.roles:
            raise forbidden(f"This API key lacks the role {role}")

    return APIRouter(dependencies=[Depends(require)])


def incident_lists(store: Store) -> APIRouter:
    """Return the endpoints that list and show incidents, and what belongs to them."""
    router = _router(store, "viewer")

    @router.get("/v1/incidents")
    async def index_v1(request: Request) -> Response:
        wanted = set(filter(None, request.query_params.getlist("status")))
        rows = [opened.shown("v1") for opened in reversed(store.all())]
        matches = lambda row: not wanted or row["status"] in wanted  # noqa: E731
        return AsciiResponse(listing.page("incidents", rows, request.query_params, most=PAGE_ASKED, matches=matches))

    @router.get("/v2/incidents")
    async def index_v2(request: Request) -> Response:
        order = request.query_params.get("sort_by") or "created_at_newest_first"
        if order not in ("created_at_newest_first", "created_at_oldest_first"):
            raise invalid(problem("invalid_value", "is neither newest nor oldest first", "sort_by"))
        rows = [opened.incident for opened in store.all()][:: 1 if "oldest" in order else -1]
        matches = listing.filters(request.query_params.multi_items(), store.catalogue)
        return AsciiResponse(listing.page("incidents", rows, request.query_params, most=PAGE_ASKED, matches=matches))

    @router.get("/v1/incidents/{incident_id}")
    async def show_v1(incident_id: str) -> Response:
        return AsciiResponse({"incident": _by_id(store, incident_id).shown("v1")})

    @router.get("/v2/incidents/{incident_id}")
    async def show_v2(incident_id: str) -> Response:
        # v2 also takes the number of a reference.
        numbered = store.find(f"INC-{incident_id}") if incident_id.isdecimal() else None
        return AsciiResponse({"incident": (numbered or _by_id(store, incident_id)).incident})

    @router.get("/v2/incident_updates")
    async def updates(request: Request, incident_id: str = "") -> Response:
        rows = [row for opened in store.all() for row in opened.updates if incident_id in ("", row["incident_id"])]
        newest = sorted(rows, key=lambda row: str(row["created_at"]), reverse=True)
        return AsciiResponse(listing.page("incident_updates", newest, request.query_params))

    @router.get("/v1/incident_attachments")
    async def attachments(incident_id: str = "", external_id: str = "", resource_type: str = "") -> Response:
        rows = [
            row
            for opened in store.all()
            for row in opened.attachments
            if incident_id in ("", row["incident_id"])
            and external_id in ("", row["resource"]["external_id"])
            and resource_type in ("", row["resource"]["resource_type"])
        ]
        return AsciiResponse({"incident_attachments": rows})

    return router


def _by_id(store: Store, incident_id: str) -> StoredIncident:
    """Return an incident by its ID alone: references are for people."""
    opened = store.show(incident_id)
    if opened.incident["id"] != incident_id:
        raise not_found(f"The incident {incident_id!r}")
    return opened


def catalogue_lists(store: Store) -> APIRouter:
    """Return the endpoints of what incidents refer to: severities, types, statuses, roles, custom fields."""
    router = _router(store, "viewer")

    def add(path: str, many: str, one: str, source: str, names: tuple[str, ...]) -> None:
        def rows() -> list[JsonObject]:
            return [pick(row, names or tuple(row)) for row in getattr(store.catalogue, source)]

        @router.get(path)
        async def index() -> Response:
            return AsciiResponse({many: rows()})

        @router.get(f"{path}/{{row_id}}")
        async def show(row_id: str) -> Response:
            row = by_id(rows(), row_id)
            if row is None:
                raise not_found(f"The {one} {row_id!r}")
            return AsciiResponse({one: row})

    for path, names in LISTS.items():
        add(path, *names)

    return router


def paged_lists(store: Store) -> APIRouter:
    """Return the endpoints of lists without a single row to show: timestamps, options of a custom field, people."""
    router = _router(store, "viewer")

    @router.get("/v2/incident_timestamps")
    async def timestamps() -> Response:
        return AsciiResponse({"incident_timestamps": store.catalogue.timestamps})

    @router.get("/v1/custom_field_options")
    async def options(request: Request, custom_field_id: str = "") -> Response:
        if not custom_field_id:
            raise invalid(problem("is_required", "custom_field_id is required", "custom_field_id"))
        field = by_id(store.catalogue.custom_fields, custom_field_id)
        if field is None:
            raise not_found(f"The custom field {custom_field_id!r}")
        return AsciiResponse(listing.page("custom_field_options", field["options"], request.query_params))

    @router.get("/v2/users")
    async def users(request: Request, email: str = "", slack_user_id: str = "", include_inactive: str = "") -> Response:
        if include_inactive not in ("", "true", "false"):
            raise invalid(problem("invalid_value", "must be true or false", "include_inactive"))
        rows = [
            _with_roles(row)
            for row in store.catalogue.users
            if (include_inactive == "true" or row.get("is_active", True))
            and email.lower() in ("", row.get("email", "").lower())
            and slack_user_id in ("", row.get("slack_user_id"))
        ]
        return AsciiResponse(listing.page("users", rows, request.query_params, most=USERS_ASKED))

    return router


def _with_roles(user: JsonObject) -> JsonObject:
    """Return a user as the list has it: with what the person may do."""
    slug = user["role"]
    base = {"id": fixed_id("RBC", 1), "name": slug.title(), "slug": slug}
    seats = {"on_call": "none", "response": "full_access"}
    return {"is_active": True, **user, "base_role": base, "custom_roles": [], "seats": seats}


def creates(store: Store) -> APIRouter:
    """Return the endpoints that open incidents."""
    router = _router(store, "incident_creator")

    async def create(request: Request, version: Version, schema: Schema) -> Response:
        required = schema.requiring("severity_id") if store.demand_severity else schema
        return AsciiResponse({"incident": store.create(await _body(request, required, store), version)})

    @router.post("/v1/incidents")
    async def create_v1(request: Request) -> Response:
        return await create(request, "v1", validation.CREATE_V1)

    @router.post("/v2/incidents")
    async def create_v2(request: Request) -> Response:
        return await create(request, "v2", validation.CREATE_V2)

    return router


def edits(store: Store) -> APIRouter:
    """Return the endpoints that change incidents."""
    router = _router(store, "incident_editor")

    @router.post("/v2/incidents/{incident_id}/actions/edit")
    async def edit(request: Request, incident_id: str) -> Response:
        opened = _by_id(store, incident_id)
        payload = await _body(request, validation.EDIT, store)
        return AsciiResponse({"incident": store.edit(opened.incident["id"], payload["incident"])})

    @router.post("/v1/incident_attachments")
    async def attach(request: Request) -> Response:
        payload = await _body(request, validation.ATTACHMENT, store)
        return AsciiResponse({"incident_attachment": store.attach(payload)}, 201)

    @router.delete("/v1/incident_attachments/{attachment_id}")
    async def detach(attachment_id: str) -> Response:
        store.detach(attachment_id)
        return Response(status_code=204)

    return router


async def _body(request: Request, schema: Schema, store: Store) -> JsonObject:
    """Read and check the request's JSON object, and note for the record what the API does not know in it."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ApiError(415, problem("unsupported_media_type", "Send application/json"))
    body = validation.parse(await request.body())
    request.state.warnings += validation.check(body, schema, store.catalogue)
    return body


def without_role(store: Store) -> APIRouter:
    """Return the endpoints that take no role: whose key it is, and the alert source, which has a token of its own."""
    router = APIRouter()

    @router.get("/v1/identity")
    async def identity() -> Response:
        known = {"roles": list(store.options.roles), "dashboard_url": store.base_url, "team_roles": [], "teams": []}
        return AsciiResponse({"identity": {"name": incidents.CREATOR["api_key"]["name"]} | known})

    @router.post(ALERTS + "{source_id}")
    async def event(request: Request) -> Response:
        payload = await _body(request, validation.ALERT_EVENT, store)
        store.alert(payload)
        taken = {"deduplication_key": payload["deduplication_key"], "message": "Taken", "status": "success"}
        return AsciiResponse(taken, 202)

    return router
