"""The error answers of the API: one exception that knows its status and body.

https://docs.incident.io/api-reference/introduction
"""

import uuid
from typing import Any

JsonObject = dict[str, Any]

KINDS = {
    401: "authentication_error",
    403: "resource_forbidden",
    404: "not_found",
    409: "conflict",
    413: "payload_too_large",
    422: "validation_error",
    429: "too_many_requests",
}


class ApiError(Exception):
    """A request that the API refuses; `rate_limit` is the body's own part on a 429."""

    def __init__(
        self,
        status: int,
        *errors: JsonObject,
        headers: dict[str, str] | None = None,
        rate_limit: JsonObject | None = None,
    ) -> None:
        kind = KINDS.get(status, "api_error")
        super().__init__(f"{status} {kind}")
        self.status = status
        self.headers = headers or {}
        self.body: JsonObject = {"type": kind, "status": status, "request_id": str(uuid.uuid4()), "errors": errors}
        if rate_limit is not None:
            self.body["rate_limit"] = rate_limit


def problem(code: str, message: str, *path: str | int) -> JsonObject:
    """Say what is wrong, and where: `path` leads from the top of the request to the place."""
    entry: JsonObject = {"code": code, "message": message}
    if path:
        # An edit wraps its fields in an object of their own; a caller looks for the field.
        field = path[1] if path[0] == "incident" and len(path) > 1 else path[0]
        entry["source"] = {"field": str(field), "pointer": "".join(f"/{part}" for part in path)}
    return entry


def invalid(*errors: JsonObject) -> ApiError:
    """Build the answer to a request whose content is wrong."""
    return ApiError(422, *errors)


def forbidden(message: str) -> ApiError:
    """Build the answer to who may not do this."""
    return ApiError(403, problem("forbidden", message))


def not_found(what: str) -> ApiError:
    """Build the answer to an unknown ID or path."""
    return ApiError(404, problem("not_found", f"{what} does not exist"))
