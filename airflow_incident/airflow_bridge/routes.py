"""The file of rules that `[incident_io] routes_file` names: read once per process and change.

What rules mean is said in core/routes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.airflow_bridge.channel import within
from airflow_incident.airflow_bridge.context import read_subject
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.core.routes import ALL_PRIVATE, Routed, Routes, problem_at, read_rules, speaks_of_private
from airflow_incident.core.text import safe_str
from airflow_incident.core.timing import DETAIL_PATIENCE
from airflow_incident.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_incident.core.failure import Level
    from airflow_incident.core.routes import Loc

WHOLE = "whole file"
"""Where it is wrong, if no line is."""
MOST_BYTES = 256 * 1024
MOST_NODES = 50_000
"""Things in a file, counted as often as they are meant: an alias may stand for many."""
MOST_LEVELS = 20
"""Levels of a file; the parser in C ends the process of one that has a hundred thousand."""


class Document(NamedTuple):
    """What a file holds, where, and what is there twice: of a rule with that nobody knows what it means."""

    value: Any = None
    lines: Mapping[Loc, int] = {}
    twice: Sequence[Loc] = ()


def routed(given: str, context: Any, *, level: Level | None = None) -> Routed:
    """Say what the rules set for what a context describes. Never raises.

    :param given: What `routes_file` says.
    :param level: As for `read_failure`.
    """
    try:
        with within(DETAIL_PATIENCE, asks=False):
            return read_routes(given).apply(read_subject(context, level=level))
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a file system may raise anything, and a context
        return Routed(file=given, problems=[Problem(WHOLE, f"cannot be used ({type(error).__name__})")])


def read_routes(given: str) -> Routes:
    """Read the rules, unless this process has read them and the file is still the same."""
    try:
        file = file_of(given)
        found = Path(file).stat()
    except (OSError, ValueError, RuntimeError) as error:
        return Routes(given, (), [_unread(error)])
    known = (file, found.st_mtime_ns, found.st_size, found.st_ino)
    before, routes = PROCESS.routes
    if routes is None or before != known:
        routes = _read(file)
        PROCESS.routes = known, routes
    return routes


def file_of(given: str) -> str:
    """Return the whole path of what `routes_file` says.

    :raises RuntimeError: if it begins at the home of nobody.
    """
    from airflow.configuration import AIRFLOW_HOME

    return str(Path(AIRFLOW_HOME, Path(given).expanduser()))


def _read(file: str) -> Routes:
    """Read the file. Of one that is no YAML, but speaks of private incidents, all are private: nobody knows which."""
    content = b""
    try:
        content = _read_bytes(file)
        document = read_document(_decode(content))
    except Exception as error:  # noqa: BLE001 -- as in `read_routed`
        is_cut = len(content) > MOST_BYTES
        is_careful = is_cut or speaks_of_private(content.replace(b"\0", b"").decode("latin-1"))  # UTF-16 has zeros
        return Routes(file, [ALL_PRIVATE] if is_careful else [], [_unread(error)])
    rules, problems = read_rules(document.value, document.lines, {int(loc[0]) for loc in document.twice})
    return Routes(file, rules, [*problems, *twice_problems(document)])


def twice_problems(document: Document) -> list[Problem]:
    """Say what is there twice."""
    return [problem_at(loc, "is there twice", document.lines) for loc in document.twice]


def _unread(error: Exception) -> Problem:
    """Say why a file cannot be read, as a person would."""
    if isinstance(error, OSError):
        return Problem(WHOLE, f"cannot be read ({error.strerror or type(error).__name__})")
    mark = getattr(error, "problem_mark", None)
    why = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return Problem(WHOLE, safe_str(error))
    return Problem(f"line {mark.line + 1}" if mark else WHOLE, f"is no YAML ({why})")


def read_text(file: str) -> str:
    """Read a file's text.

    :raises OSError: if it cannot be read.
    :raises ValueError: if it is no file, too big or no UTF-8.
    """
    return _decode(_read_bytes(file))


def _read_bytes(file: str) -> bytes:
    # Whoever opens a pipe waits for what comes out of it.
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ValueError("is no file")
        return opened.read(MOST_BYTES + 1)


def _decode(content: bytes) -> str:
    if len(content) > MOST_BYTES:
        raise ValueError(f"is too big: {MOST_BYTES // 1024} KiB at most")
    return content.decode("utf-8-sig")


def read_document(text: str) -> Document:
    """Parse YAML, plain values only.

    :raises Exception: if it is none, or too much.
    """
    import yaml  # type: ignore[import-untyped]  # its types are another package

    loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    _check_levels(yaml.parse(text, Loader=loader_class))
    loader = loader_class(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Document()
        lines: dict[Loc, int] = {}
        twice = []
        for loc, line in _walk(node):
            if loc in lines:
                twice.append(loc)
            lines[loc] = line
        return Document(loader.construct_document(node), lines, [loc for loc in twice if loc])
    finally:
        loader.dispose()


def _check_levels(events: Iterator[Any]) -> None:
    """Count how deep things are inside others.

    :raises ValueError: if that is too deep.
    """
    level = 0
    for event in events:
        kind = type(event).__name__
        level += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if level > MOST_LEVELS:
            raise ValueError(f"is nested too deeply (line {event.start_mark.line + 1})")


def _walk(node: Any) -> Iterator[tuple[Loc, int]]:
    """Yield what leads to each thing in a file, in its order, with its line; what is in a mapping has its key's.

    :raises ValueError: if there are too many, or they are too deep inside others: an alias may lead back.
    """
    waiting: list[tuple[Loc, Any, int]] = [((), node, node.start_mark.line + 1)]
    for _ in range(MOST_NODES):
        if not waiting:
            return
        loc, node, line = waiting.pop()
        yield loc, line
        if len(loc) > MOST_LEVELS:
            raise ValueError(f"is nested too deeply (line {line})")
        inside: list[tuple[Loc, Any, int]] = []
        if node.id == "sequence":
            inside = [((*loc, index), each, each.start_mark.line + 1) for index, each in enumerate(node.value)]
        elif node.id == "mapping":
            inside = [((*loc, str(key.value)), value, key.start_mark.line + 1) for key, value in node.value]
        waiting += reversed(inside)
    raise ValueError(f"holds too much: {MOST_NODES} things at most")
