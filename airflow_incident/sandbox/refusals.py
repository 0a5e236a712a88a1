"""The error answers of the API: one exception that knows its status and body."""

import uuid
from typing import Any

JsonObject = dict[str, Any]


class Refusal(Exception):  # noqa: N818 - the API refuses; nothing is wrong with the sandbox
    """A request the API does not carry out."""

    def __init__(
        self,
        status: int,
        kind: str,
        errors: list[JsonObject],
        *,
        headers: dict[str, str] | None = None,
        rate_limit: JsonObject | None = None,
    ) -> None:
        super().__init__(f"{status} {kind}")
        self.status = status
        self.headers = headers or {}
        self.body: JsonObject = {
            "type": kind,
            "status": status,
            "request_id": str(uuid.uuid4()),
            "errors": errors,
        }
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


def invalid(errors: list[JsonObject]) -> Refusal:
    """Build the answer to a request whose content is wrong."""
    return Refusal(422, "validation_error", errors)


def unauthenticated(what: str) -> Refusal:
    """Build the answer to a missing or wrong key or token."""
    return Refusal(
        401,
        "authentication_error",
        [problem("invalid_api_key", f"No valid {what} was given: expected 'Authorization: Bearer …'")],
        headers={"WWW-Authenticate": "Bearer"},
    )


def forbidden(role: str) -> Refusal:
    """Build the answer to a key that lacks a role."""
    return Refusal(403, "resource_forbidden", [problem("forbidden", f"This API key lacks the role {role}")])


def not_found(what: str) -> Refusal:
    """Build the answer to an unknown id or path."""
    return Refusal(404, "not_found", [problem("not_found", f"{what} does not exist")])


def conflict(message: str) -> Refusal:
    """Build the answer to a create whose key is taken."""
    return Refusal(409, "conflict", [problem("conflict", message, "idempotency_key")])


def too_large(limit: int) -> Refusal:
    """Build the answer to a body beyond the limit."""
    return Refusal(
        413,
        "payload_too_large",
        [problem("payload_too_large", f"The body is larger than {limit} bytes")],
        headers={"Connection": "close"},
    )
