"""An exception as text: as much of it as is wanted, from the DAG's own file on. No line enters that shows nothing."""

from __future__ import annotations

import re
import traceback
from typing import Any

from airflow_incident.core.markdown import MESSAGE_LENGTH
from airflow_incident.core.text import beginning, ending, safe_str

LISTED_ERRORS = 10
"""Members of an exception group that its message names."""
_INSTALLED = ("/site-packages/", "/dist-packages/")
_FRAME = re.compile(r'(?m)^(?P<margin>[ |]*)File "(?P<file>[^"\n]*)", line (?P<line>\d+).*\n(?:(?P=margin)  .*\n)*')
_ARROWS = re.compile(r"(?m)^[ |]*[~^]+[ ~^]*\n")
"""Where a frame points at a part of its line."""
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
    :param cause: A traceback that another process has left, which the exception only mentions; it is shown instead.
    """
    try:
        if exception is None or (detail == "type" and not isinstance(exception, str)):
            return None
        if detail == "traceback" and isinstance(exception, BaseException):
            text = cause or _traceback(exception, file)
            end = ending(text)
            return _readable(end if end == text else f"Traceback (its end):\n{end}")
        text = beginning(_last(cause)[1] if cause else str(exception))
        members = _members(exception) if isinstance(exception, BaseExceptionGroup) else []
        return "\n".join(filter(None, [text, *members])) or None
    except (Exception, SystemExit):  # noqa: BLE001 -- an exception may raise anything when it is read
        return "(the exception has no readable text)"


def raised_at(exception: Any, file: str | None, cause: str = "") -> str | None:
    """Return the last place in the DAG's own folder that an exception came through, with its line.

    :param cause: As for `error_text`; of a traceback, the last place that nobody has installed.
    """
    if cause:
        told = (
            f"{found['file']}:{found['line']}" for found in _FRAME.finditer(cause) if not _is_installed(found["file"])
        )
        return next(reversed(list(told)), None)
    folder = f"{file.rpartition('/')[0]}/" if file else ""
    steps = traceback.walk_tb(getattr(exception, "__traceback__", None)) if folder.strip("/") else ()
    places = [f"{frame.f_code.co_filename}:{line}" for frame, line in steps]
    own = (each for each in reversed(places) if each.startswith(folder) and not _is_installed(each))
    return next(own, None)


def _is_installed(file: str) -> bool:
    return any(place in file for place in _INSTALLED)


def type_in(cause: str) -> str | None:
    """Name the class of the exception that a traceback ends with."""
    return _last(cause)[0] or None


def _last(cause: str) -> tuple[str, str]:
    """Split the line that a traceback ends with into class and message."""
    line = cause.rstrip().rpartition("\n")[2]
    name, _, message = line.partition(": ")
    return (name, message) if re.fullmatch(r"[A-Za-z_][\w.]*", name) else ("", line)


def _readable(text: str) -> str:
    """Leave out of a traceback what nobody reads: arrows, and how libraries call one another in the middle of it."""
    shown: list[str] = []
    done = left_out = 0
    for frame in _FRAME.finditer(text):
        is_first = frame.start() != done or not shown
        shown.append(text[done : frame.start()])
        done = frame.end()
        goes_on = _FRAME.match(text, done) is not None
        if goes_on and not is_first and _is_installed(frame["file"]):
            left_out += 1
            continue
        if left_out:
            shown.append(f"{frame['margin']}… {left_out} more in libraries\n")
            left_out = 0
        shown.append(_ARROWS.sub("", frame[0]))
    return "".join(shown) + text[done:]


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
    own = (number for number, each in enumerate(files) if not _is_installed(each))
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
