"""What an incident can do without, and a responder cannot: what a failure stops, whose it is, what came before it.

A fact that cannot be read costs itself. What Airflow is asked takes no longer than `DETAIL_PATIENCE` in all.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_incident.airflow_bridge.channel import within
from airflow_incident.airflow_bridge.compat import conf, is_in_processor, is_triggerers, run_before, supervisor
from airflow_incident.airflow_bridge.reading import (
    CONTEXT_ERRORS,
    TaskState,
    count_instances,
    read_moment,
    read_span,
    read_text,
    render,
    safe_get,
    task_states,
)
from airflow_incident.core.text import WINDOW, beginning, ending
from airflow_incident.core.timing import DETAIL_PATIENCE
from airflow_incident.errors import AirflowTimeoutError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from airflow_incident.core.failure import Failure
    from airflow_incident.core.text import Redact

    Facts = dict[str, Any]

FIRST_TASKS = 10
"""Tasks downstream that are named; all are counted."""
MOST_ASSETS = 100
MOST_OWNERS = 20
LONGEST_ADDRESS = 2000
LONGEST_DESCRIPTION = 2000
MOST_FIELDS = 5
"""An operator's own fields that are shown, and entries of one."""
RUNS_BEFORE = 10
"""Runs before this one that are looked at, to say how many failed in a row."""
LOG_BYTES = 4 * WINDOW
"""The end of a log that is looked at: a line of Airflow 3's holds more than its text."""
LOG_LINES = 2000

_NEEDS_ALL = frozenset({"all_success", "none_failed", "none_failed_min_one_success", "none_failed_or_skipped"})
"""Trigger rules by which one failure upstream is enough not to run."""
_NEEDS_ONE = frozenset({"one_success", "all_done_min_one_success"})
"""Trigger rules by which a task does not run when nothing upstream of it has."""
_RUNS = frozenset({"success", "running", "queued", "deferred", "skipped"})
"""States of a task that a failure elsewhere in its run has not stopped."""
_RUNBOOK = re.compile(r"\[([^\[\]]{1,200})\]\(\s*<?([^\s()<>]{1,2000}(?:\([^\s()<>]{0,200}\)[^\s()<>]{0,200}){0,5})")

_TELLING = re.compile(
    r"(?:^|_)(?:dag_id|task_ids?|task_group_id|file|filepath|path|bucket|bucket_name|bucket_key|prefix|object|table"
    r"|table_id|table_name|dataset_id|database|schema|project_id|job_id|job_name|cluster_id|cluster_name|queue|topic"
    r"|namespace|endpoint|target_time|conn_id)$"
)
"""Names of an operator's own fields that say what it works on; others may hold what nobody may see."""
_LIMITS = {"AirflowTaskTimeout": "execution_timeout", "AirflowSensorTimeout": "timeout"}
"""Which of a task's limits such an error means."""
_IN_DAG_FILE = re.compile(r"^unusual_prefix_[0-9a-f]+_")
"""What Airflow puts before the name of a DAG file's module."""
_KILLED = re.compile(r"Process terminated by signal|Task exited with return code -\d")
"""What Airflow writes into the log of a task whose process was killed."""

_RAISED = " - Task failed with exception\n"
"""What Airflow 2 says before it repeats an exception that the incident shows already."""
_LAST_WORDS = 5000
_FAILED = "Marking task as FAILED. dag_id="
"""What Airflow 2 says of a failed task, before it tells how it calls the callbacks."""
_NO_NEWS = re.compile(
    r"(?:\[.{1,60} (?:INFO|WARNING|ERROR) - )?(?:::(?:end)?group::|incident\.io: |DAG bundles loaded: "
    r"|Filling up the DagBag from |Worker startup parse complete$|Task failed with exception$"
    r"|0 downstream tasks scheduled)"
)
"""Lines of a log that help nobody: how Airflow's UI folds it, how each task begins, what we have said."""


def with_details(failure: Failure, context: Any, *, log_lines: int, redact: Redact) -> Failure:
    """Add what is told by the DAG, the failed task, the states of the run's tasks, its own log, and the runs before.

    :param log_lines: How many of the log's last lines are shown.
    :param redact: For the log: of a secret of several lines the last ones alone would not be known as one.
    """
    failure = failure._replace(**_of_dag(context))
    asks = failure.in_processor or failure.level == "operator"
    states: list[TaskState] = []
    failed: list[TaskState] = []
    with suppress(AirflowTimeoutError), within(DETAIL_PATIENCE):
        states = task_states(context, failure.dag_id, failure.run_id) if asks else []
        failed = [each for each in states if each.state == "failed"]
        failure = failure._replace(failed_tasks=tuple(each.label for each in failed))
        with suppress(*CONTEXT_ERRORS):
            failure = _with_log(failure, context, log_lines, redact)
        with suppress(*CONTEXT_ERRORS):
            failure = failure._replace(**_runs_before(failure, context))
        with suppress(*CONTEXT_ERRORS):
            failure = failure._replace(instances=_instances(failure, context, states))
    with suppress(*CONTEXT_ERRORS):
        failure = failure._replace(map_names=_map_names(failure, context, failed))
    tasks = {failure.task_id} if failure.level == "task" and failure.task_id else set()
    tasks |= {each.task_id for each in failed}
    with suppress(*CONTEXT_ERRORS):
        failure = failure._replace(**_of_task(failure, context, tasks))
    with suppress(*CONTEXT_ERRORS):
        failure = failure._replace(**_stopped(context, tasks, states))
    return failure


def _of_dag(context: Any) -> Facts:
    """Read what stands in the DAG file, and which version of it ran."""
    read = {
        "owner_links": safe_get(context, "dag.owner_links", read=_owner_links),
        "description": safe_get(context, "dag.description", read=_description),
        "runbook": safe_get(context, "dag.doc_md", read=_runbook),
        "file": safe_get(context, "dag.relative_fileloc", "dag.fileloc", read=_path),
        "bundle": safe_get(context, "ti.bundle_instance", "dag_run.dag_versions", read=_bundle),
        "dag_version": safe_get(context, "dag_run.dag_versions", read=_dag_version),
    }
    return {fact: value for fact, value in read.items() if value is not None}


def _of_task(failure: Failure, context: Any, failed: Collection[str]) -> Facts:
    """Read what the one task that failed does, with what, where, and which limit it exceeded; of a late run, that."""
    if failure.reason == "timed_out":
        return {"time_limit": safe_get(context, "dag.dagrun_timeout", read=read_span)}
    if len(failed) != 1 or failure.level == "operator":
        return {}
    task = safe_get(context, "task", "ti.task") if failure.level == "task" else None
    if task is None:
        task = safe_get(context, "dag.task_dict").get(*failed)
    limit = _LIMITS.get((failure.exception_type or "").rpartition(".")[2])
    return {
        "operator": _operator(task),
        "task_doc": safe_get(task, "doc_md", "doc", "doc_rst", read=_first_line),
        "task_fields": safe_get(task, "template_fields", read=lambda names: _fields(task, names)) or {},
        "time_limit": safe_get(task, limit, read=read_span) if limit else None,
        "host": safe_get(_failed_ti(failure, context), "hostname", read=read_text),
        "runbook": safe_get(task, "doc_md", read=_runbook) or failure.runbook,
    }


def _operator(task: Any) -> str | None:
    """Name an operator; one that is not Airflow's with the module that it is from, which in a DAG file has a prefix."""
    name: str | None = safe_get(task, "operator_name", "task_type", read=read_text)
    kind = type(task)
    if not name or name != kind.__name__ or kind.__module__.partition(".")[0] == "airflow":
        return name
    return f"{_IN_DAG_FILE.sub('', kind.__module__)}.{name}"


def _first_line(doc: Any) -> str | None:
    lines = (line.strip(" \t#") for line in (read_text(doc) or "")[:LONGEST_DESCRIPTION].splitlines())
    return next(filter(None, lines), None)


def _fields(task: Any, names: Iterable[str]) -> Mapping[str, str]:
    """Read those of an operator's own fields that say what it works on, or waits for."""
    telling = filter(
        _TELLING.search, (*names, *(name for name in getattr(task, "__dict__", ()) if name.endswith("conn_id")))
    )
    values = ((name, safe_get(task, name, read=_field)) for name in dict.fromkeys(telling))
    return dict(islice(((name, value) for name, value in values if value), MOST_FIELDS))


def _field(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(read_text, value[:MOST_FIELDS])))
    return str(value) if isinstance(value, datetime) else beginning(read_text(value) or "", LONGEST_DESCRIPTION)


def page(value: Any) -> str | None:
    """Read the address of a page, with nothing in it that could end a link; None if it is none."""
    text = (read_text(value) or "").strip()
    if len(text) > LONGEST_ADDRESS or not re.fullmatch(r"(?i)(?:https?://[^\s/]|mailto:)\S+", text):
        return None
    return quote(text, safe="/:@?=&#%+,;~!$'*", errors="replace")


def _path(value: Any) -> str | None:
    return str(value) if isinstance(value, str | Path) else None


def _owner_links(value: Any) -> Mapping[str, str] | None:
    links = ((read_text(owner), page(address)) for owner, address in islice(value.items(), MOST_OWNERS))
    return {owner: address for owner, address in links if owner and address} or None


def _description(value: Any) -> str | None:
    return beginning(read_text(value) or "", LONGEST_DESCRIPTION).strip() or None


def _runbook(doc: Any) -> str | None:
    """Find the first link that calls itself so."""
    named = (
        page(link[2])
        for link in _RUNBOOK.finditer((read_text(doc) or "")[:WINDOW])
        if any(name in link[1].lower() for name in ("runbook", "playbook"))
    )
    return next(filter(None, named), None)


def _latest(value: Any) -> Any:
    """Return the version of the DAG that a run had last; some tell it as it is."""
    return value[-1] if isinstance(value, Sequence) else value


def _bundle(value: Any) -> str | None:
    bundle = _latest(value)
    name = safe_get(bundle, "name", "bundle_name", read=read_text)
    version = safe_get(bundle, "version", "bundle_version", read=read_text)
    return f"{name}@{version}" if name and version else name


def _dag_version(value: Any) -> str | None:
    number = safe_get(_latest(value), "version_number")
    return str(number) if issubclass(type(number), int) else None


def _map_names(failure: Failure, context: Any, failed: Iterable[TaskState]) -> Mapping[str, str]:
    """Read what mapped task instances are called. Of its own a task's process can still render what Airflow has not."""
    names = {each.label: each.map_name for each in failed if each.map_name}
    if failure.level == "task" and failure.map_index >= 0 and failure.task_label:
        name = safe_get(context, "ti.rendered_map_index", "task_instance.rendered_map_index", read=read_text)
        template = safe_get(context, "map_index_template", read=read_text)
        if not name and template and not failure.in_processor:
            name = render(template, context)
        names |= {failure.task_label: name} if name else {}
    return names


def _instances(failure: Failure, context: Any, states: Iterable[TaskState]) -> Mapping[str, int]:
    """Count the instances of the mapped tasks that failed, where all of them are told."""
    if failure.level == "task" and failure.map_index >= 0 and failure.task_id and not failure.in_processor:
        count = count_instances(context, failure)
        return {failure.task_id: count} if count else {}
    mapped = [each for each in states if each.map_index >= 0] if supervisor() is not None else []
    totals = Counter(each.task_id for each in mapped)
    return {each.task_id: totals[each.task_id] for each in mapped if each.state == "failed"}


def _stopped(context: Any, failed: Iterable[str], states: Iterable[TaskState]) -> Facts:
    """Follow the DAG downstream of what failed, nearest first, past no task that runs all the same."""
    tasks = safe_get(context, "dag.task_dict") or {}
    runs = {each.task_id for each in states if each.state in _RUNS}
    broken = dict.fromkeys(sorted(task for task in failed if task in tasks))
    stopped = dict.fromkeys(broken)
    waiting = deque(broken)
    while waiting:
        for name in sorted(tasks[waiting.popleft()].downstream_task_ids):
            if name not in stopped and name not in runs and _is_stopped(tasks[name], stopped):
                stopped[name] = None
                waiting.append(name)
    if not broken:
        return {}
    downstream = [name for name in stopped if name not in broken]
    assets = (asset for name in stopped for asset in _outlets(tasks[name]))
    first = tuple(islice(dict.fromkeys(assets), MOST_ASSETS))
    return {"downstream": tuple(downstream[:FIRST_TASKS]), "downstream_count": len(downstream), "assets": first}


def _is_stopped(task: Any, stopped: Mapping[str, None]) -> bool:
    """Return whether a task cannot run any more, as its trigger rule has it."""
    rule = read_text(task.trigger_rule)
    return rule in _NEEDS_ALL or (rule in _NEEDS_ONE and stopped.keys() >= task.upstream_task_ids)


def _outlets(task: Any) -> Iterator[str]:
    """Yield the names of the assets that a task updates; before Airflow 3 they had addresses alone."""
    for outlet in safe_get(task, "outlets", read=list) or ():
        name = safe_get(outlet, "name", "uri", read=read_text)
        if name:
            yield name


def _failed_ti(failure: Failure, context: Any) -> Any:
    """Return the context's task instance if it is the one that failed; the DAG's callback may have another."""
    ti = safe_get(context, "ti", "task_instance")
    index = safe_get(ti, "map_index")
    label = TaskState(safe_get(ti, "task_id"), -1 if index is None else index, "failed").label
    return ti if (label,) == (failure.failed_tasks or (failure.task_label,)) else None


def _with_log(failure: Failure, context: Any, lines: int, redact: Redact) -> Failure:
    """Read the end of the log of the one task that failed, as Airflow wrote it, if this host has it.

    Where nobody tells an error, it may say that the task's process was killed.
    """
    ti = _failed_ti(failure, context)
    is_silent = failure.exception_type is None and failure.reason in {"task_failure", "lost"}
    text = _log_end(ti) if ti is not None and (lines or is_silent) else ""
    if is_silent and _KILLED.search(text[-_LAST_WORDS:]):
        failure = failure._replace(reason="killed")
    if not text or not lines:
        return failure
    for mark in (_FAILED, _RAISED) if failure.exception_type else (_FAILED,):
        if (end := text.rfind(mark)) >= 0:
            text = text[: text.rfind("\n", 0, end) + 1]
    told = "\n".join(each for line in text.splitlines()[-LOG_LINES:] for each in _log_texts(line))
    tail = "\n".join(redact(ending(told)).splitlines()[-lines:]).strip()
    return failure._replace(log_tail=tail or None)


def _log_end(ti: Any) -> str:
    """Read the end of a task's log from its file, whole lines; empty if this host has none."""
    file = _log_file(ti)
    if file is None:
        return ""
    with file.open("rb") as log:
        start = max(0, file.stat().st_size - LOG_BYTES)
        log.seek(start)
        text = log.read(LOG_BYTES).decode(errors="replace")
    return text.partition("\n")[2] if start else text


def _log_file(ti: Any) -> Path | None:
    """Find the log of a task instance's attempt on this host.

    https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/logging-monitoring/logging-tasks.html
    """
    folder = Path(conf.get("logging", "base_log_folder")).expanduser().resolve()
    template = conf.get("logging", "log_filename_template")
    file = (folder / render(template, {"ti": ti, "try_number": safe_get(ti, "try_number")})).resolve()
    return file if file.is_relative_to(folder) and file.is_file() else None


def _log_texts(line: str) -> Iterator[str]:
    """Yield what a line of a log says to a reader: all of it, or of Airflow 3's JSON the text and the errors."""
    try:
        told = json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        told = None
    texts = [line]
    if isinstance(told, Mapping) and "event" in told:
        errors = told.get("error_detail")
        texts = [str(told["event"]), *(map(_error_line, errors) if isinstance(errors, list) else ())]
    for text in "\n".join(texts).splitlines():
        if text.strip() and not _NO_NEWS.match(text):
            yield text


def _error_line(error: Any) -> str:
    return f"{safe_get(error, 'exc_type')}: {safe_get(error, 'exc_value')}"


def _runs_before(failure: Failure, context: Any) -> Facts:
    """Read how many runs of the DAG failed in a row before this one, and when one succeeded last."""
    run = safe_get(context, "dag_run")
    if failure.level == "deadline" or is_triggerers(supervisor()) or failure.logical_date is None or run is None:
        return {}
    if is_in_processor() and supervisor() is not None and not failure.dag_id.isascii():
        return {}  # before Airflow 3.2 its in-process API dies of such a path
    failures, since, before = 0, None, run_before(run)
    while before is not None and read_text(before.state) == "failed" and failures < RUNS_BEFORE:
        failures += 1
        since = safe_get(before, "end_date", "logical_date", read=read_moment)
        before = run_before(before)
    if before is not None and read_text(before.state) != "success":
        before = run_before(run, "success")
    ended = safe_get(before, "end_date", "logical_date", read=read_moment)
    return {"failures_before": failures, "failing_since": since} | ({"last_success": ended} if ended else {})
