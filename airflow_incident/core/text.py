"""What a responder reads: title and markdown summary. Redaction comes in as a function; nothing is read here."""

from __future__ import annotations

import re
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from airflow_incident.core.failure import LISTED_TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Failure

    Redact = Callable[[str], str]

NAME_LENGTH = 150
SUMMARY_LENGTH = 8000
_FIRST_LENGTH = 6500
"""Of a summary that is new; the rest is for what is added later."""
MESSAGE_LENGTH = 500
TRACEBACK_LENGTH = 4000
_LEAST_DETAIL, _LOG_LENGTH, _AGAIN_LENGTH, _LIST_LENGTH, _FACT_LENGTH, _LONGEST_URL = 1500, 2000, 1200, 1000, 200, 1000
LISTED, _NAMED_TASKS = 10, 3
"""How many are named of the failed tasks, of other things, and in a title."""
WINDOW = 64_000
"""Characters of a text that are looked at at all, so that two megabytes cost nothing."""
_SHOWN_WINDOW = 10_000
"""Characters of a text that are redacted to show a part of them: half a secret at their end must not be in that."""
_LONGEST_SECRET = 512

_REASONS = {
    "timed_out": "the run exceeded its time limit (dagrun_timeout)",
    "task_failure": "",
    "all_tasks_deadlocked": "the tasks wait for one another (deadlock)",
}
_MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>#|~!&"})
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_MARKS = re.compile("`{9,}")
_ADDRESS = re.compile(r"(?:https?://|mailto:)[^\s<>]+", re.IGNORECASE)
_ENCODED = str.maketrans({mark: f"%{ord(mark):02X}" for mark in '()\\`|"*'})

_OPENED, _ERROR, _LOG, _FAILED, _STOPS, _WHOSE, _RUN, _EARLIER, _TO_DO = _PARTS = (
    "Opened on purpose",
    "Error",
    "End of the log",
    "Failed task",
    "What it stops",
    "Whose it is",
    "The run",
    "Earlier incidents of this DAG",
    "What to do",
)
"""What the parts of a summary begin with, in their order."""
_BEGINNING = re.compile(rf"\*\*({'|'.join(_PARTS)})s?:\*\*")
_TASK_ADVICE = (
    "Find the cause, in the error and the logs, fix it, and clear the failed tasks in Airflow: they run again."
)
_ADVICE = {
    "task": _TASK_ADVICE,
    "dag": _TASK_ADVICE,
    "timed_out": "Find out in Airflow which task took so long, and why, and clear the run.",
    "deadline": "See in Airflow what the run is waiting for; it may be running still.",
    "operator": "A step of the DAG has asked for somebody to look; its owners know why.",
}
_SUCCEEDS = {
    "run": "the run succeeds",
    "dag": "this run or a later one succeeds",
    "task": "the task or its run succeeds",
    "task_instance": "the task or its run succeeds",
}


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


def redacted(failure: Failure, redact: Redact) -> Failure:
    """Return a failure as it may be shown: without secrets, and no more of it than is looked at.

    DAG and task ids stay as they are: Airflow lets them have letters, digits, dots and dashes only.
    """

    def clean(text: str) -> str:
        return redact(beginning(str(text), _LONGEST_URL * 2))

    texts = ("run_id", "run_type", "reason", "description", "runbook", "bundle", "dag_version", "exception_type")
    facts: dict[str, Any] = {name: clean(text) for name in texts if (text := getattr(failure, name))}
    owners = failure.owners[:LISTED]
    facts["owners"] = tuple(map(clean, owners))
    facts["owner_links"] = {
        clean(each): clean(failure.owner_links[each]) for each in owners if each in failure.owner_links
    }
    facts["tags"] = tuple(map(clean, failure.tags[:LISTED]))
    facts["assets"] = (*map(clean, failure.assets[:LISTED]), *failure.assets[LISTED:])
    labels = failed_labels(failure)[:LISTED_TASKS]
    facts["map_names"] = {each: clean(failure.map_names[each]) for each in labels if each in failure.map_names}
    if failure.exception:
        whole, cut = failure.exception, beginning(failure.exception, _SHOWN_WINDOW)
        if is_traceback(whole) and cut != whole:
            cut = f"Traceback (its end):\n{ending(whole, _SHOWN_WINDOW)}"
        facts["exception"] = redact(cut)
    if failure.log_tail:
        facts["log_tail"] = redact(ending(failure.log_tail, _SHOWN_WINDOW))
    return failure._replace(**facts)


def title(failure: Failure, *, whole_run: bool) -> str:
    """Name the incident: what failed, and how, as much of it as fits.

    :param whole_run: Whether it stands for a run, of which one task's callback does not know what else fails.
    """
    kind = (failure.exception_type or "").rpartition(".")[2]
    if failure.level == "task" and not whole_run:
        names = [f"Task {failure.dag_id}.{_name_of(failure, failure.task_label or '')} failed"]
    else:
        how = {"deadline": "missed a deadline"}.get(failure.level, "failed")
        how = "timed out" if failure.reason == "timed_out" else how
        tasks = _counted(failure, whole_run=whole_run)
        if failure.level == "operator" and not tasks:
            how, tasks = "reports a problem", [failure.task_id] if failure.task_id else []
        fewer = range(min(len(tasks), _NAMED_TASKS), 0, -1)
        names = [f"DAG {failure.dag_id} {how}: {_listed(tasks, most=most)}" for most in fewer]
        names.append(f"DAG {shorten(failure.dag_id, NAME_LENGTH - len(f'DAG  {how}'))} {how}")
    candidates = [name + end for name in names for end in ([f" ({kind})", ""] if kind else [""])]
    return one_line(next((name for name in candidates if len(name) <= NAME_LENGTH), candidates[-1]))


def failed_labels(failure: Failure) -> tuple[str, ...]:
    """Return the labels of the task instances that are known to have failed; a task's own stands first."""
    own = (failure.task_label,) if failure.level == "task" and failure.task_label else ()
    return tuple(dict.fromkeys((*own, *failure.failed_tasks)))


def _counted(failure: Failure, *, whole_run: bool) -> list[str]:
    """Name the failed tasks, each once, with the number of its instances; what failed alone by its map index."""
    labels = failed_labels(failure)
    if len(labels) == 1 and (failure.failed_tasks or not whole_run):
        return [_name_of(failure, labels[0])]
    counts = Counter(label.partition("[")[0] for label in labels)
    return [f"{count} x {task}" if count > 1 else task for task, count in counts.items()]


def _name_of(failure: Failure, label: str) -> str:
    """Name a task instance; its rendered map index says more than the number."""
    name = failure.map_names.get(label)
    return f"{label.partition('[')[0]}[{name}]" if name else label


def one_line(text: str) -> str:
    """Make a name of any text: one line, not too long, cut between two words."""
    line = " ".join(_plain(text).split())
    words = line[:NAME_LENGTH].rpartition(" ")[0]
    return (
        shorten(line, NAME_LENGTH if len(words) < NAME_LENGTH // 2 else len(words) + 1) if line[NAME_LENGTH:] else line
    )


def log_line(text: str) -> str:
    """Make one line that every log file can hold: ids and answers may have line breaks and terminal commands."""
    flat = " ".join(text.encode("utf-8", "replace").decode().split())
    return "".join(letter if letter.isprintable() else "?" for letter in flat)


def summary(failure: Failure, *, deployment: str, scope: Scope = "run") -> str:
    """Write the facts as markdown, the most important first; an unknown fact has no line.

    :param failure: As it may be shown.
    """
    others = [
        _log(failure),
        _failed(failure),
        _stops(failure),
        _whose(failure),
        _run(failure, deployment),
        _to_do(failure, scope),
    ]
    room = _FIRST_LENGTH - sum(map(len, others))
    return cut("\n\n".join(filter(None, [_error(failure, max(room, _LEAST_DETAIL)), *others])))


def _error(failure: Failure, room: int) -> str:
    """Say what went wrong, and how a step puts it that opens an incident on purpose."""
    where = _place(failure, failure.task_label) if failure.task_label else ""
    if failure.level == "operator":
        log = f", [log]({address})" if (address := _address(failure.log_url)) else ""
        return f"**{_OPENED}:** by task {where}{log}" if where else ""
    words = [escape(_fact(reason_text(failure.reason)))]
    if failure.level == "deadline":
        words.append(
            "the run missed its deadline" + (f" of {when}" if (when := format_time(failure.deadline_at)) else "")
        )
    if failure.exception_type:
        words.insert(0, code(failure.exception_type) + (f" in {where}" if where else ""))
    said = "; ".join(filter(None, words))
    if not failure.exception:
        return f"**{_ERROR}:** {said}" if said else ""
    detail = _plain(failure.exception)
    if is_traceback(detail):  # its cause stands at its end, a message's at its beginning
        detail = _ending_of(detail, min(room, TRACEBACK_LENGTH))
    else:
        detail = shorten(detail, MESSAGE_LENGTH if failure.exception_type else min(room, TRACEBACK_LENGTH))
    return f"**{_ERROR}:** {said}".rstrip() + f"\n{fence(detail)}"


def _log(failure: Failure) -> str:
    """Show the end of the log, but for lines that say the error once more."""
    error, kind = failure.exception or "", (failure.exception_type or "").rpartition(".")[2]
    last = error.rstrip().rpartition("\n")[2]
    said = {*error.splitlines(), f"{kind}: {error}", f"{kind}: {last.partition(': ')[2]}"}
    lines = [line for line in (failure.log_tail or "").splitlines() if line.strip() not in said]
    tail = "\n".join(lines).strip("\n")
    return f"**{_LOG}:**\n{fence(_ending_of(tail, _LOG_LENGTH))}" if tail.strip() else ""


def _failed(failure: Failure) -> str:
    """Name each failed task instance, with its log."""
    labels = failed_labels(failure)
    items = []
    for label in labels[:LISTED_TASKS]:
        own = failure.log_url if failure.level == "task" and label == failure.task_label else None
        address = _address(failure.log_urls.get(label) or own)
        items.append(_place(failure, label) + (f", [log]({address})" if address else ""))
    shown = _within(items, _LIST_LENGTH * 2)
    if more := len(labels) - len(shown):
        shown.append(f"and {more} more")
    return f"**{_FAILED}:** {shown[0]}" if len(shown) == 1 else _list_of(f"{_FAILED}s", shown)


def _stops(failure: Failure) -> str:
    """Say what does not happen because of it."""
    count = max(failure.downstream_count, len(failure.downstream))
    tasks = "1 task does not run" if count == 1 else f"{count} tasks do not run" if count else ""
    named = _listed(list(map(code, failure.downstream[:LISTED])), total=count)
    assets = _listed([code(_fact(asset)) for asset in failure.assets[:LISTED]], total=len(failure.assets))
    return _list_of(_STOPS, [": ".join(filter(None, (tasks, named))), assets and f"Assets not updated: {assets}"])


def _whose(failure: Failure) -> str:
    """Say who knows more, and where it is written."""
    links = [(_fact(owner), failure.owner_links.get(owner)) for owner in failure.owners[:LISTED]]
    owners = [link(owner, url) if _address(url) else escape(owner) for owner, url in links]
    runbook = failure.runbook or ""
    return _facts_of(
        _WHOSE,
        {
            "Owners": _listed(owners, total=len(failure.owners)),
            "About the DAG": escape(shorten(failure.description or "", MESSAGE_LENGTH)),
            "Runbook": link(_fact(runbook), runbook) if _address(runbook) else escape(_fact(runbook)),
        },
    )


def _run(failure: Failure, deployment: str) -> str:
    run = link(_fact(failure.run_id), failure.run_url)
    ended = {"operator": "Opened at", "deadline": "Noticed at"}.get(failure.level, "Failed at")
    before = failure.failures_before or 0
    never = "" if failure.failures_before is None else "never before, as far as Airflow knows"
    attempt = f"{failure.attempt}" if failure.attempt else ""
    if failure.attempt and failure.attempts and failure.attempts >= failure.attempt:
        attempt += f" of {failure.attempts}"
    began, over = (moment and moment.replace(microsecond=0) for moment in (failure.started_at, failure.failed_at))
    lasted = over - began if began and over else None  # as a reader reckons it
    return _facts_of(
        _RUN,
        {
            "DAG": code(failure.dag_id),
            "Run": f"{run} ({escape(_fact(failure.run_type))})" if failure.run_type else run,
            "Logical date": format_time(failure.logical_date),
            "Deadline": format_time(failure.deadline_at),
            "Started at": format_time(failure.started_at),
            ended: format_time(failure.failed_at) + (f", {after} after its start" if (after := _span(lasted)) else ""),
            "Attempt": attempt,
            "Last success": format_time(failure.last_success) or never,
            "Runs before": f"the last {before} failed, too" if before > 1 else before and "the last one failed, too",
            "Cleared": {0: "", 1: "once"}.get(failure.clear_count, f"{failure.clear_count} times"),
            "Bundle": failure.bundle and code(_fact(failure.bundle)),
            "DAG version": failure.dag_version and code(_fact(failure.dag_version)),
            "Deployment": escape(_fact(deployment)),
            "Tags": _listed([code(_fact(tag)) for tag in failure.tags[:LISTED]], total=len(failure.tags)),
        },
    )


def _to_do(failure: Failure, scope: Scope) -> str:
    """Say what a person can do, and what happens without one; true for every setting of a recovery."""
    advice = "Follow the runbook. " * bool(failure.runbook) + _ADVICE.get(failure.reason or "", _ADVICE[failure.level])
    if failure.level == "operator":
        ends = "A later step, or a later attempt of the run, may close this by itself"
    else:
        ends = f"When {_SUCCEEDS[scope]}, this closes by itself where that is set up (`resolve_incident`)"
    return (
        f"**{_TO_DO}:** {advice}\n{ends}. If it stays open, perhaps because somebody has claimed it, close it by hand."
    )


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
    errors = [part.removeprefix(f"**{_ERROR}:**").strip() for name, part in _parts(newest) if name == _ERROR]
    return cut("\n".join([f"**Failed again{when}**, after its run was cleared: {what}", *errors]), _AGAIN_LENGTH)


def completed(text: str, newest: str) -> str | None:
    """Put what a later text of the same run knows better into its place; None where the text is not of these parts.

    An error is never lost: a later one stands below it.
    """
    if all(name is None for name, _ in _parts(text)):
        return None
    for name, part in _parts(newest):
        if name in {_FAILED, _STOPS} or (name == _ERROR and part not in text):
            text = _put(text, name, part, beside=name == _ERROR)
    return cut(text)


def with_earlier(text: str, incidents: Sequence[tuple[str, str, datetime]]) -> str:
    """Put a DAG's earlier incidents into their place: name, page and moment of each."""
    told = ", ".join(f"{link(label, page)} ({at:%Y-%m-%d})" for label, page, at in incidents)
    return cut(_put(text, _EARLIER, f"**{_EARLIER}:** {told}")) if told else text


def with_notes(text: str, notes: Sequence[str]) -> str:
    """Add what changes what the reader sees, a short sentence each, however long the text is."""
    end = "".join(f"\n\n_{escape(shorten(note, MESSAGE_LENGTH))}_" for note in dict.fromkeys(notes))
    return cut(text, SUMMARY_LENGTH - len(end)) + end


def left_out(labels: Iterable[str]) -> list[str]:
    """Say which settings an incident does without; why stands in the log and the journal."""
    names = ", ".join(dict.fromkeys(labels))
    return [f"Left out: {names}. Airflow's log says why."] if names else []


def cut(text: str, length: int = SUMMARY_LENGTH) -> str:
    """Cut a text that is too long at the end of a line, and close the code block that is open there."""
    if len(text) <= length:
        return text
    kept, size, opened = [], len("\n…"), ""
    for line, inside in _lines(text):
        room = length - size - len(inside) - len("\n")
        if len(line) >= room:
            kept += [shorten(line, room)] if room > 1 and len(line) > MESSAGE_LENGTH else []
            break
        kept.append(line)
        size, opened = size + len(line) + len("\n"), inside
    return "\n".join([*kept, *filter(None, [opened]), "…"])


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line with the marks of the code block that it is in."""
    inside = ""
    for line in text.split("\n"):
        marks = line[: len(line) - len(line.lstrip("`"))]
        if inside and line.rstrip() == inside:
            inside = ""
        elif not inside and len(marks) >= len("```") and "`" not in line[len(marks) :]:
            inside = marks
        yield line, inside


def _parts(text: str) -> list[tuple[str | None, str]]:
    """Split a summary into its parts, each with its name; what belongs to none has none."""
    parts: list[tuple[str | None, list[str]]] = [(None, [])]
    for line, inside in _lines(text):
        if not inside and (found := _BEGINNING.match(line)):
            parts.append((found[1], []))
        parts[-1][1].append(line)
    return [(name, whole) for name, lines in parts if (whole := "\n".join(lines).strip())]


def _put(text: str, name: str, part: str, *, beside: bool = False) -> str:
    """Put a part into its place, instead of the one that is there, or beside it."""
    others = [(each, whole) for each, whole in _parts(text) if each != name or beside]
    later = _PARTS[_PARTS.index(name) + 1 :]
    place = next((number for number, (each, _) in enumerate(others) if each in later), len(others))
    return "\n\n".join([*(whole for _, whole in others[:place]), part, *(whole for _, whole in others[place:])])


def reason_text(reason: str | None) -> str:
    """Say a run's reason in words; that tasks failed is said by the tasks."""
    return _REASONS.get(reason or "", reason or "")


def is_traceback(text: str) -> bool:
    """Return whether a text is a traceback, also one of an exception group."""
    return text.lstrip(" +").startswith(("Traceback ", "Exception Group Traceback "))


def _place(failure: Failure, label: str) -> str:
    name = failure.map_names.get(label)
    return f"{code(label)} ({escape(_fact(name))})" if name else code(label)


def _list_of(name: str, items: Iterable[str]) -> str:
    lines = "".join(f"\n- {item}" for item in items if item)
    return f"**{name}:**{lines}" if lines else ""


def _facts_of(name: str, facts: Mapping[str, Any]) -> str:
    return _list_of(name, (f"**{label}:** {fact}" for label, fact in facts.items() if fact))


def _listed(items: Sequence[str], *, most: int = LISTED, total: int = 0) -> str:
    """Write items with commas between, as many as have room, and the number of the others."""
    shown = _within(items[:most], _LIST_LENGTH)
    more = max(total, len(items)) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if shown and more else "")


def _within(items: Sequence[str], room: int) -> list[str]:
    """Return the first of the items that have room together."""
    ends = list(accumulate(len(item) for item in items))
    return [item for item, end in zip(items, ends, strict=True) if end <= room]


def _ending_of(text: str, length: int) -> str:
    """Keep the last lines of a text, and say so with an ellipsis."""
    text = _plain(text).rstrip()
    return text if len(text) <= length else "…" + text[1 - length :]


def _fact(text: str | None) -> str:
    return shorten(text or "", _FACT_LENGTH)


def _span(time: timedelta | None) -> str:
    """Write how long something took, in its two largest units; nothing if a clock was wrong."""
    left = int(time.total_seconds()) if time else 0
    units = []
    for unit, seconds in {"d": 86400, "h": 3600, "min": 60, "s": 1}.items():
        units.append(f"{left // seconds} {unit}" if left >= seconds else "")
        left %= seconds
    return " ".join(list(filter(None, units))[:2]) if time and time.total_seconds() > 0 else ""


def format_time(time: datetime | None) -> str:
    """Write a date and time to the second, with its zone; an unknown one is empty."""
    return f"{time:%Y-%m-%d %H:%M:%S} {time.tzname() or ''}".rstrip() if time else ""


def link(text: str, url: str | None) -> str:
    """Write a markdown link, or the text alone where there is no address."""
    address = _address(url)
    return f"[{escape(text)}]({address})" if address else code(text)


def _address(url: str | None) -> str:
    """Return an address that a link may lead to, with no mark in it that would end the link; empty if it is none."""
    text = (url or "").strip()
    return _plain(text).translate(_ENCODED) if len(text) <= _LONGEST_URL and _ADDRESS.fullmatch(text) else ""


def _plain(text: str) -> str:
    """Leave out what is no text: colours, control characters, changes of direction, half of a surrogate pair.

    A long row of backticks, which would need a longer one on both sides, is cut.
    """
    return _MARKS.sub("`" * 8, _CONTROLS.sub("", text.encode("utf-8", "replace").decode()))


def escape(text: str) -> str:
    """Keep ids and messages from being read as markdown, mentions or several lines."""
    return " ".join(_plain(text).split()).translate(_MARKDOWN)


def code(text: str) -> str:
    """Write a code span that the text cannot end."""
    text = " ".join(shorten(_plain(text), MESSAGE_LENGTH).split()) or " "
    ticks = "`"
    while ticks in text:
        ticks += "`"
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fence(text: str) -> str:
    """Write a code block that the text cannot end."""
    text, ticks = _plain(text), "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}\n{text.rstrip()}\n{ticks}"
