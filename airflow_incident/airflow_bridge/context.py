"""The only reader of Airflow's context objects. Nothing in them is taken for granted.

What is missing, of another type, or raises when it is touched, is unknown. Shapes and versions:
https://airflow.apache.org/docs/apache-airflow/stable/templates-ref.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.compat import trigger_error
from airflow_incident.airflow_bridge.reading import (
    read_moment,
    read_text,
    safe_get,
    task_states,
)
from airflow_incident.constants import TASK_SCOPES
from airflow_incident.core.error_text import error_text, raised_at, type_in, type_name
from airflow_incident.core.failure import Failure

if TYPE_CHECKING:
    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Level
    from airflow_incident.core.text import Redact

    Read = Callable[[Any], Any]


def _number(value: Any) -> int | None:
    return value if issubclass(type(value), int) and not isinstance(value, bool) else None


def _attempt(value: Any) -> int | None:
    return _number(value) or None


def _attempts(value: Any) -> int | None:
    tries = _number(value)
    return None if tries is None or tries < 0 else tries + 1


def read_owners(value: Any) -> tuple[str, ...]:
    """Read a DAG's owners; `airflow` is the name of those that have none."""
    names = (name.strip() for name in (read_text(value) or "").split(","))
    return tuple(name for name in names if name not in {"", "airflow"})


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str):
        return ()
    names = (safe_get(tag, "name", read=read_text) or read_text(tag) for tag in value)
    return tuple(sorted(filter(None, names)))


_DAG_ID = ("dag.dag_id", "ti.dag_id", "task_instance.dag_id", "dag_run.dag_id")
_RUN_ID = ("run_id", "dag_run.run_id", "dag_run.dag_run_id", "ti.run_id", "task_instance.run_id")


# Each fact, how it is read, and where: the first place that tells it counts.
_Facts = tuple[tuple[str, "Read", tuple[str, ...]], ...]
_OF_RUN: _Facts = (
    ("dag_id", read_text, _DAG_ID),
    ("run_id", read_text, _RUN_ID),
    ("clear_count", _number, ("dag_run.clear_number",)),
    ("run_type", read_text, ("dag_run.run_type",)),
    ("logical_date", read_moment, ("logical_date", "dag_run.logical_date")),
    ("run_after", read_moment, ("dag_run.run_after",)),
    ("started_at", read_moment, ("dag_run.start_date",)),
)
_OF_TASK: _Facts = (
    ("task_id", read_text, ("ti.task_id", "task_instance.task_id")),
    ("map_index", _number, ("ti.map_index", "task_instance.map_index")),
)
_OF_DAG: _Facts = (("owners", read_owners, ("dag.owner",)), ("tags", _tags, ("dag.tags",)))
_OF_FAILURE: _Facts = (
    ("reason", read_text, ("reason",)),
    ("deadline_at", read_moment, ("deadline.deadline_time",)),
    ("exception_type", type_name, ("exception",)),
    *_OF_DAG,
)
_OF_FAILED_RUN: _Facts = (("failed_at", read_moment, ("dag_run.end_date",)),)
_OF_FAILED_TASK: _Facts = (
    ("attempt", _attempt, ("ti.try_number", "task_instance.try_number")),
    ("attempts", _attempts, ("ti.max_tries", "task_instance.max_tries")),
    ("failed_at", read_moment, ("ti.end_date", "task_instance.end_date")),
)


def read_failure(
    context: Any,
    *,
    exception_detail: str = "message",
    log_lines: int = 0,
    redact: Redact = str,
    level: Level | None = None,
) -> Failure:
    """Read what a context tells. Fields that it does not tell are unset; ids may be empty.

    :param log_lines: How many of the last lines of the failed task's log are read, redacted before they are cut.
    :param level: Where it comes from, if that is known; else it is told from the context's shape.
    """
    from airflow_incident.airflow_bridge.details import with_details  # a success needs none

    level = level or _level(context)
    of_this = _OF_FAILED_TASK if level in {"task", "operator"} else _OF_FAILED_RUN
    facts = {"failed_at": datetime.now(UTC)} | _facts(context, level, (*_OF_FAILURE, *of_this))
    if level == "import":
        return _import_failure(context, facts, exception_detail)
    if level == "dag" or (level == "task" and not _is_of_the_task(context)):
        facts["in_processor"] = True
    file = safe_get(context, "dag.fileloc", read=read_text)
    exception = safe_get(context, "exception")
    if (exception is None and level == "task" and "in_processor" in facts) or _is_lost(exception):
        exception, facts["reason"] = None, "lost"
    cause = safe_get(context, "exception", read=trigger_error) or ""
    facts["raised_at"] = safe_get(context, "exception", read=lambda error: raised_at(error, file, cause))
    if kind := type_in(cause):
        facts |= {"exception_type": kind, "reason": "trigger"}
    text = error_text(exception, exception_detail, file=file, cause=cause)
    return with_details(Failure(**facts, exception=text), context, log_lines=log_lines, redact=redact)


def _import_failure(context: Any, facts: dict[str, Any], exception_detail: str) -> Failure:
    """Read why a DAG file cannot be imported. Its traceback has no data in it, so more than its type is all of it."""
    traceback = safe_get(context, "import_error.traceback", read=read_text) or ""
    detail = "type" if exception_detail == "type" else "traceback"
    return Failure(
        **facts | {"exception_type": type_in(traceback)},
        exception=error_text(ImportError(), detail, cause=traceback) if traceback else None,
        file=safe_get(context, "import_error.path", read=read_text),
        bundle=safe_get(context, "import_error.bundle", read=read_text),
        file_dags=tuple(safe_get(context, "import_error.tags") or ()),
    )


def _is_lost(exception: Any) -> bool:
    """Return whether it is what Airflow 2 says of a lost task: which one it is. Airflow 3 says nothing."""
    return (read_text(exception) or "").startswith("{'DAG Id'")


def read_success(context: Any, *, level: Level | None = None, scope: Scope = "run") -> Failure:
    """Read which run or task succeeded, in the words of the failure that it may have been before.

    :param level: As for `read_failure`.
    :param scope: What an incident stands for; where that is a task, those that a run failed with are read.
    """
    level = level or _level(context)
    facts = _facts(context, level)
    if level == "dag" and scope in TASK_SCOPES:
        states = task_states(context, facts["dag_id"], facts["run_id"])
        facts["failed_tasks"] = tuple(each.label for each in states if each.state == "failed")
    return Failure(**facts, in_processor=level == "dag")


def read_subject(context: Any, *, level: Level | None = None) -> Failure:
    """Read what rules look at: which DAG, run and task it is about, and whose.

    :param level: As for `read_failure`.
    """
    return Failure(**_facts(context, level or _level(context), _OF_DAG))


def _facts(context: Any, level: Level, more: _Facts = ()) -> dict[str, Any]:
    """Read which run it is, which task instance of it, and more: what is known of it."""
    wanted = (*_OF_RUN, *(_OF_TASK if level in {"task", "operator"} else ()), *more)
    read = {fact: safe_get(context, *places, read=read) for fact, read, places in wanted}
    known = {fact: value for fact, value in read.items() if value is not None}
    return {"dag_id": "", "run_id": "", "level": level} | known


def ids(context: Any) -> tuple[str, str]:
    """Read DAG id and run id from wherever a context has them; empty where it has none."""
    return safe_get(context, *_DAG_ID, read=read_text) or "", safe_get(context, *_RUN_ID, read=read_text) or ""


def called_for(context: Any) -> str:
    """Tell what Airflow calls a callback for, `failure` or `success`; empty where the context does not say.

    A callback of a DAG has a reason, one of a task has its state: on each version it is set before. Without a state
    that says so a task's own code may have called, or a person.
    """
    level = _level(context)
    if level in {"import", "deadline"} or safe_get(context, "exception") is not None:
        return "failure"
    if level == "dag":
        reason = safe_get(context, "reason", read=read_text)
        return "success" if reason == "success" else "failure" if reason else ""
    state = safe_get(context, "ti.state", "task_instance.state", read=read_text)
    return {"success": "success", "failed": "failure", "up_for_retry": "failure"}.get(state or "", "")


def is_in_task(context: Any) -> bool:
    """Return whether a task's own process calls."""
    return _level(context) == "task" and _is_of_the_task(context)


def _level(context: Any) -> Level:
    """Tell who calls. Only the DAG's callback has a reason; a deadline's context has a deadline and no task."""
    if safe_get(context, "import_error") is not None:
        return "import"
    if safe_get(context, "deadline") is not None:
        return "deadline"
    # A template field of somebody else's notifier may be called so: Airflow writes them into a task's context.
    has_reason = isinstance(context, Mapping) and "reason" in context and "exception" not in context
    return "dag" if has_reason or safe_get(context, "ti", "task_instance") is None else "task"


def _is_of_the_task(context: Any) -> bool:
    """Tell a task's own process from the DAG processor, which knows of a lost task neither exception nor start.

    The exception alone would not do: `dag.test()` leaves it out from Airflow 3.0 to 3.2.
    """
    has_exception = isinstance(context, Mapping) and "exception" in context
    if has_exception and _is_lost(safe_get(context, "exception")):
        return False  # Airflow 2's DAG processor says which one it is
    return has_exception or safe_get(context, "ti.start_date", "task_instance.start_date") is not None
