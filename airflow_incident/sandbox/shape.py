"""The form of a request: collects every problem at once, and the properties that are ignored."""

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .refusals import JsonObject, invalid, problem

Path = tuple[str | int, ...]
# Property -> the name of a type in `TYPES`, "date-time", or the values of an enum.
Known = Mapping[str, str | tuple[str, ...]]

TYPES: dict[str, tuple[type, str]] = {
    "string": (str, "must be a string"),
    "array": (list, "must be a list"),
    "object": (dict, "must be an object"),
    "boolean": (bool, "must be true or false"),
    "integer": (int, "must be a whole number"),
    "date-time": (str, "must be a string"),
}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse(raw: bytes) -> JsonObject:
    """Read a JSON object, or refuse."""

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        body = json.loads(raw.decode(), parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise invalid([problem("invalid_json", f"The body is not valid JSON: {error}")]) from None
    if not isinstance(body, dict):
        raise invalid([problem("invalid_type", "The body must be a JSON object")])
    return body


def moment(text: str) -> dt.datetime | None:
    """Read a moment as RFC 3339 writes it."""
    try:
        return dt.datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
    except ValueError:
        return None


class Shape:
    """What was found in one request: the problems, and the paths of unknown properties."""

    def __init__(self) -> None:
        self.errors: list[JsonObject] = []
        self.unknown: list[str] = []

    def add(self, code: str, message: str, path: Path) -> None:
        """Note a problem."""
        self.errors.append(problem(code, message, *path))

    def done(self) -> list[str]:
        """Return the unknown properties' paths, or refuse with every problem found."""
        if self.errors:
            raise invalid(self.errors)
        return self.unknown

    def nulls(self, value: Any, path: Path = ()) -> None:
        """Note every null: the API takes none."""
        if value is None:
            self.add("invalid_value", "null is never valid: leave an unset field out", path)
        for key, child in _children(value):
            self.nulls(child, (*path, key))

    def object(self, body: Any, path: Path, known: Known, required: tuple[str, ...] = ()) -> None:
        """Note what an object lacks, and what it has of a wrong type."""
        if not isinstance(body, dict):
            self.add("invalid_type", "must be an object", path)
            return
        for name in required:
            if name not in body or body[name] == "":
                self.add("is_required", f"{name} is required", (*path, name))
        for name, value in body.items():
            here = (*path, name)
            if name not in known:
                self.unknown.append("".join(f"/{part}" for part in here))
            else:
                self._type(value, known[name], here)

    def _type(self, value: Any, kind: str | tuple[str, ...], path: Path) -> None:
        wanted, told = TYPES["string" if isinstance(kind, tuple) else kind]
        # A JSON boolean is no number, though it is one in Python.
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            self.add("invalid_type", told, path)
        elif isinstance(kind, tuple) and value not in kind:
            self.add("invalid_value", f"must be one of {', '.join(kind)}", path)
        elif kind == "date-time" and moment(str(value)) is None:
            self.add("invalid_value", "must be a moment like 2026-01-05T09:00:00Z", path)


def _children(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)
