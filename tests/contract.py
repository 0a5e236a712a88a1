"""Requests and answers against incident.io's own document, read strictly: nothing unknown, no null.

The document has no error answers; their shape is written down here, from docs.incident.io/api-reference.
"""

import copy
import datetime as dt
import functools
import json
import os
import pathlib
import re
import urllib.parse
from typing import Any

import jsonschema
import pytest

ROOT = pathlib.Path(__file__).parents[1]

# In the API, but not in the document at hand: https://docs.incident.io/api-reference/incident-attachments-v1/delete
BEYOND = {"/v1/incident_attachments/{id}": {"delete": {"responses": {"204": {}}}}}

ERROR = {
    "type": "object",
    "required": ["type", "status", "request_id", "errors"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "pattern": "^[a-z_]+$"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "request_id": {"type": "string", "minLength": 1},
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "additionalProperties": False,
                "properties": {
                    "code": {"type": "string", "pattern": "^[a-z_]+$"},
                    "message": {"type": "string", "minLength": 1},
                    "source": {
                        "type": "object",
                        "required": ["field"],
                        "additionalProperties": False,
                        "properties": {"field": {"type": "string"}, "pointer": {"type": "string"}},
                    },
                },
            },
        },
        "rate_limit": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "name": {"type": "string"},
                "limit": {"type": "integer"},
                "remaining": {"type": "integer"},
                "retry_after": {"type": "string"},
            },
        },
    },
}

FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    # fromisoformat alone also takes what RFC 3339 does not: a date without time, a time without zone.
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value) is None:
        return False
    return dt.datetime.fromisoformat(value).tzinfo is not None


def document_path() -> pathlib.Path | None:
    """Return where the official document lies, if it does."""
    named = os.environ.get("INCIDENTIO_OPENAPI")
    path = pathlib.Path(named) if named else ROOT.parent / "shared" / "incidentio-openapi.json"
    return path if path.is_file() else None


@functools.cache
def document() -> dict[str, Any]:
    """Return the official document, or skip the test."""
    path = document_path()
    if path is None:
        pytest.skip("the official OpenAPI document is not beside this checkout")
    return json.loads(path.read_text(encoding="utf-8"))


def operation(method: str, path: str) -> dict[str, Any]:
    """Return the document's operation for a concrete path."""
    for template, methods in (document()["paths"] | BEYOND).items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and method.lower() in methods:
            return methods[method.lower()]
    raise AssertionError(f"the document has no {method} {path}")


def check_request(method: str, path: str, body: Any = None, query: str = "") -> None:
    """Fail unless the document allows this request, with nothing beyond it."""
    allowed = operation(method, path)
    parameters = {row["name"]: row for row in allowed.get("parameters", []) if row["in"] == "query"}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        assert name.partition("[")[0] in {known.partition("[")[0] for known in parameters}, name
        schema = parameters.get(name, {}).get("schema", {})
        if schema.get("type") == "integer":
            _validate(int(value), schema)
    content = allowed.get("requestBody", {}).get("content", {})
    if not content:
        assert body is None, f"{method} {path} takes no body"
        return
    _validate(body, content["application/json"]["schema"])


def check_response(method: str, path: str, status: int, body: Any) -> None:
    """Fail unless this answer is one the document, or the description of errors, allows."""
    if status >= 400:
        _refuse_null(body)
        _tell(jsonschema.Draft4Validator(ERROR), body)
        assert body["status"] == status
        return
    answers = operation(method, path)["responses"]
    assert str(status) in answers, f"{method} {path} never answers {status}"
    content = answers[str(status)].get("content", {})
    if content:
        _validate(body, content["application/json"]["schema"])


def check_all(box: Any) -> None:
    """Check every request that a sandbox has recorded, and what it answered."""
    for seen in box.requests:
        check_request(seen.method, seen.path, seen.body, seen.query)
        assert seen.warnings == []
        check_response(seen.method, seen.path, seen.status, seen.answer)


@functools.cache
def _components() -> dict[str, Any]:
    components = copy.deepcopy(document()["components"])
    _close(components)
    return components


def _close(schema: Any) -> None:
    """Allow no property that an object does not name."""
    for child in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(child, dict | list):
            _close(child)
    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)


def _refuse_null(value: Any) -> None:
    assert value is not None, "null is never valid"
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_null(child)


def _validate(value: Any, schema: dict[str, Any]) -> None:
    _refuse_null(value)
    # OpenAPI 3.0 writes its schemas in this draft's words.
    whole = {"components": _components(), **schema}
    _tell(jsonschema.Draft4Validator(whole, format_checker=FORMATS), value)


def _tell(validator: jsonschema.Draft4Validator, value: Any) -> None:
    wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert not wrong, "\n".join(wrong)
