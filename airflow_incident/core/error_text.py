"""An exception as text: as much of it as is wanted, from the DAG's own file on. No line enters that shows nothing."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from airflow_incident.core.text import MESSAGE_LENGTH, beginning, ending, safe_str

if TYPE_CHECKING:
    from collections.abc import Iterator

LISTED_ERRORS = 10
"""Members of an exception group that its message names."""
_INSTALLED = ("/site-packages/", "/dist-packages/")


def type_name(exception: Any) -> str | None:
    """Name an exception's class, with its module unless that is Python's own or a script's."""
    if exception is None or isinstance(exception, str):
        return None
    kind = type(exception)
    module = kind.__module__
    return kind.__qualname__ if module in {"builtins", "__main__"} else f"{module}.{kind.__qualname__}"


def error_text(exception: Any, detail: str, file: str | None = None) -> str | None:
    """Read as much of an exception as is wanted; some have a `__str__` that raises, even SystemExit.

    :param file: The DAG's own, at which a traceback begins.
    """
    try:
        if exception is None or (detail == "type" and not isinstance(exception, str)):
            return None
        if detail == "traceback" and isinstance(exception, BaseException):
            text = _traceback(exception, file)
            end = ending(text)
            return end if end == text else f"Traceback (its end):\n{end}"
        text = beginning(str(exception))
        return (_with_members(text, exception) if isinstance(exception, BaseExceptionGroup) else text) or None
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
    """Return the first frame that is of the DAG's file; without one, the first that nobody has installed; else 0."""
    if file in files:
        return files.index(file)
    own = (number for number, each in enumerate(files) if not any(place in each for place in _INSTALLED))
    return next(own, 0)


def _with_members(text: str, group: BaseExceptionGroup[Any]) -> str:
    """Add what a group's message only counts: a line for each member, whatever groups it stands in."""
    members = list(_members(group))
    lines = [
        f"- {type_name(each)}: {beginning(' '.join(safe_str(each).split()), MESSAGE_LENGTH)}".rstrip(": ")
        for each in members[:LISTED_ERRORS]
    ]
    more = len(members) - LISTED_ERRORS
    return "\n".join([text, *lines, *([f"- and {more} more"] if more > 0 else ())])


def _members(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    """Yield a group's exceptions, those of the groups in it in their place."""
    waiting: list[BaseException] = [group]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += reversed(each.exceptions)
        else:
            yield each
