"""What a responder reads: title and markdown summary. Redaction comes in as a function; nothing is read here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from airflow_incident.core.failure import Failure

    Redact = Callable[[str], str]

NAME_LENGTH = 150
SUMMARY_LENGTH = 8000
MESSAGE_LENGTH = 500
TRACEBACK_LENGTH = 4000
LISTED_TASKS = 20
WINDOW = 64_000
"""Characters of a text that are looked at at all, so that two megabytes cost nothing."""
_LONGEST_SECRET = 512

_REASONS = {
    "timed_out": "the run exceeded its time limit (dagrun_timeout)",
    "task_failure": "",
    "all_tasks_deadlocked": "the tasks wait for one another (deadlock)",
}

_MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>#|~!"})


def beginning(text: str, length: int = WINDOW) -> str:
    """Cut a long text before it is redacted, between two words: half a secret would not be known as one."""
    if len(text) <= length:
        return text
    words = re.match(r"(?s)(.*)\s", text[:length])
    return words[1] if words else text[: length - _LONGEST_SECRET]


def ending(text: str, length: int = WINDOW) -> str:
    """Cut the beginning of a long text before it is redacted, between two words."""
    if len(text) <= length:
        return text
    words = re.search(r"\s", text[-length:])
    return text[-length:][words.end() :] if words else text[_LONGEST_SECRET - length :]


def safe_str(error: BaseException) -> str:
    """Read an error's text; some have a `__str__` that raises, even SystemExit."""
    try:
        return beginning(str(error))
    except (Exception, SystemExit):  # noqa: BLE001 -- whatever it raises, it has no text
        return "(no readable text)"


def shorten(text: str, length: int) -> str:
    """Cut a text that is too long, and say so with an ellipsis."""
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot travel as JSON
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def title(failure: Failure, *, whole_run: bool) -> str:
    """Name the incident: the task that failed, where nobody knows yet whether its run will; else the DAG."""
    what, how = f"DAG {failure.dag_id}", "failed"
    if failure.level == "deadline":
        how = "missed a deadline"
    elif failure.reason == "timed_out":
        how = "timed out"
    elif failure.task_id is not None and (failure.level == "task" or not whole_run):
        # Of a run's incident the first of a mapped task's failures is no better name than the others.
        what = f"Task {failure.dag_id}.{failure.task_id if whole_run else failure.task_label}"
    return one_line(f"{what} {how}")


def one_line(text: str) -> str:
    """Make a name of any text: one line, not too long."""
    return shorten(" ".join(text.split()), NAME_LENGTH)


def log_line(text: str) -> str:
    """Make one line that every log file can hold: ids and answers may have line breaks and terminal commands."""
    flat = " ".join(text.encode("utf-8", "replace").decode().split())
    return "".join(letter if letter.isprintable() else "?" for letter in flat)


def summary(failure: Failure, *, deployment: str, redact: Redact) -> str:
    """Write the facts as markdown; an unknown fact has no line."""
    run = link(failure.run_id, failure.run_url)
    is_step = failure.level == "operator"
    facts = {
        "DAG": code(failure.dag_id),
        "Run": f"{run} ({failure.run_type})" if failure.run_type else run,
        "Cleared": {0: "", 1: "once"}.get(failure.clear_count, f"{failure.clear_count} times"),
        "Deployment": escape(deployment),
        "Logical date": format_time(failure.logical_date),
        "Opened at" if is_step else "Failed at": format_time(failure.failed_at),
        "Deadline": format_time(failure.deadline_at),
        "Opened by task" if is_step else "Task": failure.task_id and _task(failure),
        "Failed tasks": failure.failed_tasks and _list_tasks(failure.failed_tasks),
        "Reason": escape(shorten(reason_text(failure.reason), MESSAGE_LENGTH)),
        "Owners": escape(", ".join(failure.owners)),
        "Tags": ", ".join(map(code, failure.tags)),
        "Exception": failure.exception_type and code(failure.exception_type),
    }
    text = "\n".join(f"- **{label}:** {fact}" for label, fact in facts.items() if fact)
    if not failure.exception:
        return text
    detail = redact(failure.exception)
    if failure.exception_type and not detail.lstrip(" +").startswith(("Traceback ", "Exception Group Traceback ")):
        detail = shorten(detail, MESSAGE_LENGTH)
    elif len(detail) > TRACEBACK_LENGTH:
        detail = "…" + detail[-TRACEBACK_LENGTH:]  # a message's cause stands at its beginning, a traceback's at its end
    return f"{text}\n\n{fence(detail)}"


def with_origin(text: str, failure: Failure, *, deployment: str) -> str:
    """Add to somebody's own text where it comes from: the reader wants the run, whatever the author thought of."""
    origin = f"DAG {code(failure.dag_id)}, run {link(failure.run_id, failure.run_url)}, deployment {escape(deployment)}"
    return f"{text.rstrip()}\n\n{origin}"


def with_first_line(text: str, line: str) -> str:
    """Add what has happened since a text was sent; newest first."""
    return shorten(f"{line}\n\n{text}", SUMMARY_LENGTH)


def failed_again(failure: Failure) -> str:
    """Say that a run was cleared, and has failed again."""
    when = f" at {format_time(failure.failed_at)}" if failure.failed_at else ""
    what = link(failure.task_label or failure.run_id, failure.log_url or failure.run_url)
    return f"**Failed again{when}**, after its run was cleared: {what}"


def with_earlier(text: str, incidents: Sequence[tuple[str, str, datetime]]) -> str:
    """Add a DAG's earlier incidents: name, page and moment of each."""
    told = ", ".join(f"[{escape(label)}]({page}) ({at:%Y-%m-%d})" for label, page, at in incidents)
    return f"{text}\n\n**Earlier incidents of this DAG:** {told}" if told else text


def with_notes(text: str, notes: Sequence[str]) -> str:
    """Add what the reader should know about the report itself, a sentence each, however long the text is."""
    end = "".join(f"\n\n_{escape(note)}_" for note in notes)
    return shorten(text, SUMMARY_LENGTH - len(end)) + end


def reason_text(reason: str | None) -> str:
    """Say a run's reason in words; that tasks failed is said by the tasks."""
    return _REASONS.get(reason or "", reason or "")


def _task(failure: Failure) -> str:
    text = code(failure.task_label or "")
    if failure.attempt:
        text += f", attempt {failure.attempt}"
        if failure.attempts and failure.attempts >= failure.attempt:
            text += f" of {failure.attempts}"
    return text + (f" ([log]({failure.log_url}))" if failure.log_url else "")


def _list_tasks(labels: Sequence[str]) -> str:
    shown = ", ".join(code(label) for label in labels[:LISTED_TASKS])
    more = len(labels) - LISTED_TASKS
    return f"{shown} and {more} more" if more > 0 else shown


def format_time(time: datetime | None) -> str:
    """Write a date and time to the second, with its zone; an unknown one is empty."""
    return f"{time:%Y-%m-%d %H:%M:%S} {time.tzname() or ''}".rstrip() if time else ""


def link(text: str, url: str | None) -> str:
    """Write a markdown link, or the text alone where there is no address."""
    return f"[{escape(text)}]({url})" if url else code(text)


def escape(text: str) -> str:
    """Keep ids and messages from being read as markdown, mentions or several lines."""
    return " ".join(text.split()).translate(_MARKDOWN)


def code(text: str) -> str:
    """Write a code span that the text cannot end."""
    text = " ".join(shorten(text, MESSAGE_LENGTH).split()) or " "
    ticks = "`"
    while ticks in text:
        ticks += "`"
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fence(text: str) -> str:
    """Write a code block that the text cannot end."""
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}\n{text.rstrip()}\n{ticks}"
