"""What a responder reads: title and markdown summary. Redaction comes in as a function; nothing is read here."""

from __future__ import annotations

import re
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from airflow_incident.core.failure import LISTED_TASKS
from airflow_incident.core.markdown import (
    LONGEST_URL,
    MESSAGE_LENGTH,
    address,
    code,
    cut,
    ending_of,
    escape,
    fence,
    link,
    list_of,
    plain,
    shorten,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Failure

    Redact = Callable[[str], str]

NAME_LENGTH = 150
_FIRST_LENGTH = 6500
"""Of a summary that is new; the rest is for what is added later."""
TRACEBACK_LENGTH = 4000
_LEAST_DETAIL, _LOG_LENGTH, _LIST_LENGTH, _FACT_LENGTH = 1500, 2000, 1000, 200
LISTED, _NAMED_TASKS = 10, 3
"""How many are named of the failed tasks, of other things, and in a title."""
WINDOW = 64_000
"""Characters of a text that are looked at at all, so that two megabytes cost nothing."""
_SHOWN_WINDOW = 10_000
"""Characters of a text that are redacted to show a part of them: half a secret at their end must not be in that."""
_LONGEST_SECRET = 512

_REASONS = {
    "timed_out": "the run exceeded its time limit{limit} (dagrun_timeout)",
    "task_failure": "",
    "no_task_failed": "no task of it failed: it exceeded its time limit{limit}, or somebody marked it as failed",
    "all_tasks_deadlocked": "the tasks wait for one another (deadlock)",
    "killed": "its process was killed, most often because memory ran out or its machine went away",
    "trigger": "raised by its trigger, in a triggerer",
    "lost": "Airflow lost touch with its process: it was killed, its worker is gone, or it never started",
    "AirflowTaskTimeout": "it ran longer than its time limit{limit} (execution_timeout)",
    "AirflowSensorTimeout": "what it waits for did not come within its time limit{limit} (timeout)",
}
"""Why a run failed, as Airflow or its log says; and what two of Airflow's errors mean."""
_TEXTS = (
    *("run_id", "run_type", "reason", "description", "runbook", "file", "bundle", "dag_version"),
    *("exception_type", "raised_at", "operator", "task_doc", "host"),
)
"""Facts of a failure that are one text each, which a person may have written."""

_OPENED, ERROR, _LOG, FAILED, _TASK, STOPS, _WHOSE, RUN, _FILE, EARLIER, TO_DO = PARTS = (
    "Opened on purpose",
    "Error",
    "End of the log",
    "Failed task",
    "The task",
    "What it stops",
    "Whose it is",
    "The run",
    "The file",
    "Earlier incidents of this DAG",
    "What to do",
)
"""What the parts of a summary begin with, in their order."""
_ADVICE = {
    "task": ("Find the cause: begin {error}, and read in {log} what came before.", "Fix the cause{hand_over}."),
    "dag": ("Find the cause in {log}.", "Fix the cause{hand_over}."),
    "trigger": (
        "Find the cause: begin {error}, and read in {log}, which has the trigger's lines too, what came before.",
        "Fix the cause{hand_over}.",
    ),
    "timed_out": (
        "See in {run} which task took so long, and why.",
        "Make it faster or raise the `dagrun_timeout`{hand_over}.",
    ),
    "no_task_failed": (
        "See in {run} which task was running, and in the audit log there whether somebody marked the run as failed.",
        "Fix the cause{hand_over}.",
    ),
    "AirflowTaskTimeout": (
        "See what it was doing when its time was up ({place}), and read {log}.",
        "Make it faster or raise its `execution_timeout`{hand_over}.",
    ),
    "AirflowSensorTimeout": (
        "Look whether {awaited} is there by now{where}, and read {log}. If not, ask whoever sends it, or the owners.",
        "Wait until it is there; if it is often late, raise the `timeout`.",
    ),
    "killed": (
        "See in {log} how far it came, and on its host or in its container whether memory ran out when it failed.",
        "If so, give the task more memory, or less to do at once. If not, see why its host or container stopped.",
    ),
    "lost": (
        "See in {log} how far it came, and on its host or in its container whether the worker is alive.",
        "Start the worker again, or give it more memory.",
    ),
    "deadline": ("See in {run} what it is waiting for: it may be running still.", ""),
    "operator": ("Read {log}, and ask the owners: a step of the DAG wants somebody to look.", ""),
}
"""Where to look, and what to do before the failed tasks are cleared."""
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


def redacted(failure: Failure, redact: Redact) -> Failure:
    """Return a failure as it may be shown: without secrets, and no more of it than is looked at.

    DAG and task ids stay as they are: Airflow lets them have letters, digits, dots and dashes only.
    """

    def clean(text: str) -> str:
        return redact(beginning(str(text), LONGEST_URL * 2))

    facts: dict[str, Any] = {name: clean(text) for name in _TEXTS if (text := getattr(failure, name))}
    owners = failure.owners[:LISTED]
    facts["owners"] = tuple(map(clean, owners))
    facts["owner_links"] = {
        clean(each): clean(failure.owner_links[each]) for each in owners if each in failure.owner_links
    }
    facts["tags"] = tuple(map(clean, failure.tags[:LISTED]))
    facts["assets"] = (*map(clean, failure.assets[:LISTED]), *failure.assets[LISTED:])
    labels = failed_labels(failure)[:LISTED_TASKS]
    facts["task_fields"] = {clean(name): clean(value) for name, value in failure.task_fields.items()}
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
    kind = _error_name(failure) or {"killed": "killed", "lost": "lost"}.get(failure.reason or "", "")
    if failure.level == "import":
        end = f" ({kind})" if kind else ""
        room = NAME_LENGTH - len(f"DAG file  cannot be imported{end}")
        file = failure.file or failure.dag_id
        file = file if len(file) <= room else f"…{file[1 - room :]}"
        return one_line(f"DAG file {file} cannot be imported{end}")
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
    line = " ".join(plain(text).split())
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
    if failure.level == "import":
        others = [_file_stops(failure), _whose(failure), _file(failure, deployment), _file_to_do(failure)]
        return cut("\n\n".join(filter(None, [_error(failure, TRACEBACK_LENGTH), *others])))
    others = [
        _log(failure),
        _failed(failure),
        _task(failure),
        _stops(failure),
        _whose(failure),
        _run(failure, deployment),
        _to_do(failure, scope),
    ]
    room = _FIRST_LENGTH - sum(map(len, others))
    return cut("\n\n".join(filter(None, [_error(failure, max(room, _LEAST_DETAIL)), *others])))


def _error(failure: Failure, room: int) -> str:
    """Say what went wrong, and how a step puts it that opens an incident on purpose."""
    labels = failed_labels(failure)
    if failure.level == "operator":
        by = _place(failure, failure.task_label) if failure.task_label else ""
        return f"**{_OPENED}:** by task {by}{_log_link(failure.log_url)}" if by else ""
    is_one = len(labels) == 1 or (labels and failure.level == "task")
    where = _place(failure, labels[0]) if is_one else ""
    known, why = code(failure.exception_type) if failure.exception_type else "", escape(_fact(_why(failure)))
    if failure.reason != "timed_out" and (known or why):
        known = " in ".join(filter(None, (known, where)))
    detail = plain(failure.exception or "")
    if failure.raised_at and known and not is_traceback(detail):
        known += f", at {code(_fact(failure.raised_at))}"
    said = ": ".join(filter(None, (known, why)))
    if not detail:
        return f"**{ERROR}:** {said}" if said else ""
    if is_traceback(detail):  # its cause stands at its end, a message's at its beginning
        detail = ending_of(detail, min(room, TRACEBACK_LENGTH))
    else:
        detail = shorten(detail, MESSAGE_LENGTH if failure.exception_type else min(room, TRACEBACK_LENGTH))
    return f"**{ERROR}:** {said}".rstrip() + f"\n{fence(detail)}"


def _why(failure: Failure) -> str:
    """Say in words why it failed, as far as Airflow says it in code."""
    if failure.level == "deadline":
        when = format_time(failure.deadline_at)
        return "the run missed its deadline" + (f" of {when}" if when else "")
    limit = format_span(failure.time_limit)
    said = reason_text(failure.reason, limit=limit)
    return said or (reason_text(name, limit=limit) if limit and (name := _error_name(failure)) in _REASONS else "")


def _error_name(failure: Failure) -> str:
    return (failure.exception_type or "").rpartition(".")[2]


def _log(failure: Failure) -> str:
    """Show the end of the log, but for lines that say the error once more."""
    error, kind = failure.exception or "", f"{_error_name(failure)}: "
    lines = (failure.log_tail or "").splitlines()
    tail = "\n".join(line for line in lines if line.strip().removeprefix(kind) not in error)
    return f"**{_LOG}:**\n{fence(ending_of(tail, _LOG_LENGTH))}" if tail else ""


def _failed(failure: Failure) -> str:
    """Name each failed task instance, with its log, and how many there are of a mapped task."""
    labels = failed_labels(failure)
    items = [_place(failure, each) + _log_link(_log_url(failure, each)) for each in labels[:LISTED_TASKS]]
    shown = _within(items, _LIST_LENGTH * 2)
    if more := len(labels) - len(shown):
        shown.append(f"and {more} more")
    for task, total in failure.instances.items():
        count = sum(label.partition("[")[0] == task for label in labels)
        if 0 < count <= total:
            all_of = "in all, " * (len(labels) > 1)
            shown.append(f"{all_of}{count} of the {total} instances of {code(task)} failed")
    return f"**{FAILED}:** {', '.join(shown)}" if len(labels) == 1 else list_of(f"{FAILED}s", shown)


def _log_url(failure: Failure, label: str) -> str | None:
    own = failure.log_url if failure.level == "task" and label == failure.task_label else None
    return failure.log_urls.get(label) or own


def _log_link(url: str | None) -> str:
    return f", {_to('log', url)}" if address(url) else ""


def _to(words: str, url: str | None) -> str:
    """Let words of ours lead to a page, if there is one."""
    there = address(url)
    return f"[{words}]({there})" if there else words


def _task(failure: Failure) -> str:
    """Say what the one task that failed does, with what, and where."""
    fields = [f"{escape(_fact(name))} {code(_fact(value))}" for name, value in failure.task_fields.items()]
    operator = code(_fact(failure.operator)) if failure.operator else ""
    others = " (not the trigger's)" if failure.reason == "trigger" else ""
    return _facts_of(
        _TASK,
        {
            "About the task": escape(_fact(failure.task_doc)),
            "Operator": ", ".join(filter(None, [operator, *fields])),
            "Host": failure.host and f"{code(_fact(failure.host))}{others}",
        },
    )


def _stops(failure: Failure) -> str:
    """Say what does not happen because of it."""
    if failure.downstream_count is None and not failure.downstream:
        return ""
    count = max(failure.downstream_count or 0, len(failure.downstream))
    tasks = (
        "1 task does not run" if count == 1 else f"{count} tasks do not run" if count else "No other task of this DAG"
    )
    named = _listed(list(map(code, failure.downstream[:LISTED])), total=count)
    assets = _listed([code(_fact(asset)) for asset in failure.assets[:LISTED]], total=len(failure.assets))
    waiting = f"; {_to('DAGs that are scheduled on them', failure.assets_url)} are not started by this run"
    return list_of(
        STOPS, [": ".join(filter(None, (tasks, named))), assets and f"Assets not updated: {assets}{waiting}"]
    )


def _whose(failure: Failure) -> str:
    """Say who knows more, and where it is written."""
    links = [(_fact(owner), failure.owner_links.get(owner)) for owner in failure.owners[:LISTED]]
    owners = [link(owner, url) if address(url) else escape(owner) for owner, url in links]
    runbook = failure.runbook or ""
    return _facts_of(
        _WHOSE,
        {
            "Owners": _listed(owners, total=len(failure.owners)),
            "About the DAG": escape(shorten(failure.description or "", MESSAGE_LENGTH)),
            "Runbook": link(_fact(runbook), runbook) if address(runbook) else escape(_fact(runbook)),
        },
    )


def _run(failure: Failure, deployment: str) -> str:
    """Say which run it is, since when it goes wrong, and which code ran."""
    run = link(_fact(failure.run_id), failure.run_url)
    dag = code(failure.dag_id) + (f", file {code(_fact(failure.file))}" if failure.file else "")
    ended = {"operator": "Opened at", "deadline": "Noticed at"}.get(failure.level, "Failed at")
    attempt = f"{failure.attempt}" if failure.attempt else ""
    if failure.attempt and failure.attempts and failure.attempts >= failure.attempt:
        attempt += f" of {failure.attempts}"
    began, over = (moment and moment.replace(microsecond=0) for moment in (failure.started_at, failure.failed_at))
    lasted = format_span(over - began if began and over else None)  # as a reader reckons it
    return _facts_of(
        RUN,
        {
            "DAG": dag,
            "Run": f"{run} ({escape(_fact(failure.run_type))})" if failure.run_type else run,
            **_since(failure),
            "Logical date": format_time(failure.logical_date),
            "Deadline": format_time(failure.deadline_at),
            "Started at": format_time(failure.started_at),
            ended: format_time(failure.failed_at) + (f", {lasted} after the run's start" if lasted else ""),
            "Attempt": attempt,
            "Cleared": {0: "", 1: "once"}.get(failure.clear_count, f"{failure.clear_count} times"),
            "Bundle": failure.bundle and code(_fact(failure.bundle)),
            "DAG version": failure.dag_version and code(_fact(failure.dag_version)),
            "Deployment": escape(_fact(deployment)),
            "Tags": _listed([code(_fact(tag)) for tag in failure.tags[:LISTED]], total=len(failure.tags)),
        },
    )


def _since(failure: Failure) -> dict[str, str]:
    """Say since when the DAG fails, and when it worked, as far as Airflow knows."""
    before, last = failure.failures_before, format_time(failure.last_success)
    if before is None:
        return {"Last success": last}
    since = ""
    if before:
        first = format_time(failure.failing_since)
        runs = (
            f"{before} runs in a row before this one" if failure.level == "operator" else f"{before + 1} runs in a row"
        )
        since = f"the run that ended at {first} ({runs})" if first else runs
    elif failure.level != "operator":
        since = "this run, the first to fail"
    return {"Failing since": since, "Last success": last or "none yet, as far as Airflow knows"}


def _to_do(failure: Failure, scope: Scope) -> str:
    """Say what a person can do, and what happens without one; true for every setting of a recovery."""
    labels = failed_labels(failure)
    url = failure.log_url if failure.level == "operator" else _log_url(failure, labels[0]) if labels else None
    log = "the logs above" if len(labels) > 1 else _to("the task's log", url)
    run = _to("Airflow", failure.run_url)
    kinds = (failure.reason, _error_name(failure)) if failure.level in {"task", "dag"} else ()
    told = "dag" if failure.level == "task" and not failure.exception_type else failure.level
    look, fix = _ADVICE[next((kind for kind in kinds if kind in _ADVICE), told)]
    clear = f"{fix} After that, clear the failed tasks in {{run}}: they run again, and after them what waits for them."
    if failure.reason in {"timed_out", "no_task_failed"}:
        clear = f"{fix} After that, clear the run in {{run}}: it runs again."
    if failure.level == "operator":
        ends = (
            "A later step, or a later attempt of the run, may close this by itself. If it stays open, close it by hand."
        )
    else:
        ends = (
            f"You are done when {_SUCCEEDS[scope]}. Close this incident then, unless it closes by itself: where "
            "recovery is set up it does, as long as nobody has accepted it or become its lead."
        )
    runbook = f"Follow the {_to('runbook', failure.runbook)}." if failure.runbook else ""
    place = code(_fact(failure.raised_at)) if failure.raised_at else ""
    above = "the error and the end of the log above" if failure.log_tail else "the error above"
    error = f"at {place}, the last line of the DAG's own code before the error" if place else f"with {above}"
    things = (value for name, value in failure.task_fields.items() if not name.endswith("conn_id"))
    awaited = ", ".join(code(_fact(value)) for value in things) or "it"
    known = {"log": log, "run": run, "error": error, "place": place or above, "awaited": awaited}
    known |= {"where": _where(failure), "hand_over": ", or hand it over to the owners" if failure.owners else ""}
    steps = filter(None, [runbook, look.format(**known), clear.format(**known) if fix else "", ends])
    return f"**{TO_DO}:**" + "".join(f"\n{number}. {step}" for number, step in enumerate(steps, 1))


def _where(failure: Failure) -> str:
    """Say where a sensor looks, as its fields tell: through a connection, or for a file on the host that it runs on."""
    through = [code(_fact(value)) for name, value in failure.task_fields.items() if name.endswith("conn_id")]
    if through:
        return f", through the connection {', '.join(through)}"
    if not failure.host or not any(name.endswith(("path", "file")) for name in failure.task_fields):
        return ""
    return f", probably on the host {code(_fact(failure.host))} (the sensor names no connection)"


def _file_stops(failure: Failure) -> str:
    """Say which DAGs have no new runs: Airflow leaves out those whose file is broken."""
    held = _listed([code(_fact(dag)) for dag in failure.file_dags[:LISTED]], total=len(failure.file_dags))
    return f"**{STOPS}:** no new run begins of the DAGs in this file: {held}" if held else ""


def _file(failure: Failure, deployment: str) -> str:
    """Say which file it is, and since when it is broken."""
    return _facts_of(
        _FILE,
        {
            "File": code(_fact(failure.file or failure.dag_id)),
            "Bundle": failure.bundle and code(_fact(failure.bundle)),
            "Broken since": format_time(failure.started_at),
            "Deployment": escape(_fact(deployment)),
            "Tags": _listed([code(_fact(tag)) for tag in failure.tags[:LISTED]], total=len(failure.tags)),
        },
    )


def _file_to_do(failure: Failure) -> str:
    runbook = f"Follow the {_to('runbook', failure.runbook)}. " if failure.runbook else ""
    return (
        f"**{TO_DO}:** {runbook}Correct the file, or install what it lacks where Airflow reads DAG files. This closes "
        "by itself when the file can be imported again, unless somebody has claimed it."
    )


def reason_text(reason: str | None, *, limit: str = "") -> str:
    """Say a run's reason in words; that tasks failed is said by the tasks."""
    known = _REASONS.get(reason or "")
    return (reason or "") if known is None else known.format(limit=limit and f" of {limit}")


def is_traceback(text: str) -> bool:
    """Return whether a text is a traceback, also one of an exception group."""
    return text.lstrip(" +").startswith(("Traceback ", "Exception Group Traceback "))


def _place(failure: Failure, label: str) -> str:
    name = failure.map_names.get(label)
    return f"{code(label)} ({escape(_fact(name))})" if name else code(label)


def _facts_of(name: str, facts: Mapping[str, Any]) -> str:
    return list_of(name, (f"**{label}:** {fact}" for label, fact in facts.items() if fact))


def _listed(items: Sequence[str], *, most: int = LISTED, total: int = 0) -> str:
    """Write items with commas between, as many as have room, and the number of the others."""
    shown = _within(items[:most], _LIST_LENGTH)
    more = max(total, len(items)) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if shown and more else "")


def _within(items: Sequence[str], room: int) -> list[str]:
    """Return the first of the items that have room together."""
    ends = list(accumulate(len(item) for item in items))
    return [item for item, end in zip(items, ends, strict=True) if end <= room]


def _fact(text: str | None) -> str:
    return shorten(text or "", _FACT_LENGTH)


def format_span(time: timedelta | None) -> str:
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
