"""What is added to a text of ours once it was sent: each part in its place, whatever else somebody has written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_incident.core.markdown import MESSAGE_LENGTH, SUMMARY_LENGTH, code, cut, escape, lines_of, link, shorten
from airflow_incident.core.text import EARLIER, ERROR, FAILED, PARTS, RUN, STOPS, TO_DO, format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from airflow_incident.core.failure import Failure

_AGAIN_LENGTH = 1200
_BEGINNING = re.compile(rf"\*\*({'|'.join(PARTS)})s?:\*\*")


def with_origin(text: str, failure: Failure, *, deployment: str) -> str:
    """Add to somebody's own text where it comes from: the reader wants the run, whatever the author thought of."""
    origin = f"DAG {code(failure.dag_id)}, run {link(failure.run_id, failure.run_url)}, deployment {escape(deployment)}"
    return f"{text.rstrip()}\n\n{origin}"


def with_first_line(text: str, line: str) -> str:
    """Add what has happened since a text was sent; newest first."""
    return cut(f"{line}\n\n{text}")


def failed_again(failure: Failure, newest: str) -> str:
    """Say that a run was cleared, and has failed again, and how, as its own text would say it."""
    when = f" at {format_time(failure.failed_at)}" if failure.failed_at else ""
    what = link(failure.task_label or "the run", failure.log_url or failure.run_url)
    errors = [part.removeprefix(f"**{ERROR}:**").strip() for name, part in _parts(newest) if name == ERROR]
    return cut("\n".join([f"**Failed again{when}**, after its run was cleared: {what}", *errors]), _AGAIN_LENGTH)


def completed(text: str, newest: str) -> str | None:
    """Put what a later text of the same run knows better into its place; None where the text is not of these parts.

    An error is never lost: a later one stands below it.
    """
    if all(name is None for name, _ in _parts(text)):
        return None
    for name, part in _parts(newest):
        if name in {FAILED, STOPS} or (name == ERROR and part not in text):
            text = _put(text, name, part, beside=name == ERROR)
    return cut(text)


def with_earlier(text: str, incidents: Sequence[tuple[str, str, datetime]]) -> str:
    """Put a DAG's earlier incidents into their place: name, page and moment of each."""
    told = ", ".join(f"{link(label, page)} ({at:%Y-%m-%d})" for label, page, at in incidents)
    return cut(_put(text, EARLIER, f"**{EARLIER}:** {told}")) if told else text


def with_notes(text: str, notes: Sequence[str]) -> str:
    """Add what changes what the reader sees, a short sentence each, however long the text is."""
    end = "".join(f"\n\n_{escape(shorten(note, MESSAGE_LENGTH))}_" for note in dict.fromkeys(notes))
    return cut(text, SUMMARY_LENGTH - len(end)) + end


def left_out(labels: Iterable[str]) -> list[str]:
    """Say which settings an incident does without; why stands in the log and the journal."""
    names = ", ".join(dict.fromkeys(labels))
    return [f"Left out: {names}. Airflow's log says why."] if names else []


def _parts(text: str) -> list[tuple[str | None, str]]:
    """Split a summary into its parts, each with its name; what belongs to none has none."""
    parts: list[tuple[str | None, list[str]]] = [(None, [])]
    for line, inside in lines_of(text):
        if not inside and (found := _BEGINNING.match(line)):
            parts.append((found[1], []))
        parts[-1][1].append(line)
    return [(name, whole) for name, lines in parts if (whole := "\n".join(lines).strip())]


def is_written_here(text: str) -> bool:
    """Return whether a text is one of ours as a whole: it names a run, and ends with what to do."""
    names = [name for name, _ in _parts(text) if name]
    return RUN in names and names[-1] == TO_DO


def _put(text: str, name: str, part: str, *, beside: bool = False) -> str:
    """Put a part into its place, instead of the one that is there, or beside it."""
    others = [(each, whole) for each, whole in _parts(text) if each != name or beside]
    later = PARTS[PARTS.index(name) + 1 :]
    place = next((number for number, (each, _) in enumerate(others) if each in later), len(others))
    return "\n\n".join([*(whole for _, whole in others[:place]), part, *(whole for _, whole in others[place:])])
