"""An exception as text: as much of it as is wanted, from the DAG's own file on. No line enters that shows nothing."""

from __future__ import annotations

import re
import traceback
from typing import Any

from airflow_incident.core.text import MESSAGE_LENGTH, beginning, ending, safe_str

LISTED_ERRORS = 10
"""Members of an exception group that its message names."""
_INSTALLED = ("/site-packages/", "/dist-packages/")
_AIRFLOW = re.compile(r"/(?:site|dist)-packages/airflow/(?!providers/)")


def type_name(exception: Any) -> str | None:
    """Name an exception's class, with its module unless that is Python's own or a script's."""
    if exception is None or isinstance(exception, str):
        return None
    kind = type(exception)
    module = kind.__module__
    return kind.__qualname__ if module in {"builtins", "__main__"} else f"{module}.{kind.__qualname__}"


def error_text(exception: Any, detail: str, *, file: str | None = None, cause: str = "") -> str | None:
    """Read as much of an exception as is wanted; some have a `__str__` that raises, even SystemExit.

    :param file: The DAG's own, at which a traceback begins.
    :param cause: A traceback that another process has left, which the exception only mentions.
    """
    try:
        if exception is None or (detail == "type" and not isinstance(exception, str)):
            return None
        if detail == "traceback" and isinstance(exception, BaseException):
            text = f"{cause.rstrip()}\n\n{_traceback(exception, file)}".lstrip("\n")
            end = ending(text)
            return end if end == text else f"Traceback (its end):\n{end}"
        text = beginning(str(exception))
        last = cause.rstrip().rpartition("\n")[2]
        members = _members(exception) if isinstance(exception, BaseExceptionGroup) else []
        return "\n".join(filter(None, [text, *members, last])) or None
    except (Exception, SystemExit):  # noqa: BLE001 -- an exception may raise anything when it is read
        return "(the exception has no readable text)"


def _traceback(exception: BaseException, file: str | None) -> str:
    """Write a traceback without the frames that lead to the DAG's own file: how Airflow calls a task helps nobody."""
    read = traceback.TracebackException.from_exception(exception, lookup_lines=False, compact=True)
    waiting: list[Any] = [read]
    seen = set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        del each.stack[: _first_of_dag([frame.filename for frame in each.stack], file)]
        waiting += [each.__cause__, each.__context__, *(each.exceptions or ())]
    return "".join(read.format())


def _first_of_dag(files: list[str], file: str | None) -> int:
    """Return the first frame that is of the DAG's file; else that nobody has installed; else behind Airflow's own."""
    if file in files:
        return files.index(file)
    own = (number for number, each in enumerate(files) if not any(place in each for place in _INSTALLED))
    others = (number for number, each in enumerate(files) if not _AIRFLOW.search(each))
    return next(own, next(others, max(0, len(files) - 1)))


def _members(group: BaseExceptionGroup[Any]) -> list[str]:
    """Name what a group's message only counts: a line for each exception, whatever groups it stands in."""
    waiting: list[BaseException] = [group]
    found: list[BaseException] = []
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += reversed(each.exceptions)
        else:
            found.append(each)
    lines = [
        f"- {type_name(each)}: {beginning(' '.join(safe_str(each).split()), MESSAGE_LENGTH)}".rstrip(": ")
        for each in found[:LISTED_ERRORS]
    ]
    more = len(found) - LISTED_ERRORS
    return [*lines, f"- and {more} more"] if more > 0 else lines
