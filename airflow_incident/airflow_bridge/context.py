"""The only reader of Airflow's context objects. Nothing in them is taken for granted.

What is missing, of another type, or raises when it is touched, is unknown. Shapes and versions:
https://airflow.apache.org/docs/apache-airflow/stable/templates-ref.html
"""

from __future__ import annotations

import sys
import traceback
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from airflow_incident.airflow_bridge.channel import within
from airflow_incident.airflow_bridge.compat import PROCESSOR, TASK_RUNNER, supervisor
from airflow_incident.constants import TASK_SCOPES
from airflow_incident.core.failure import Failure
from airflow_incident.core.text import beginning, ending
from airflow_incident.core.timing import DETAIL_PATIENCE

if TYPE_CHECKING:
    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Level

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")

CONTEXT_ERRORS = (Exception, SystemExit)
"""What an object of a context may raise when it is touched; `sys.exit()` in one would end Airflow's process."""


def read_failure(context: Any, *, exception_detail: str = "message", level: Level | None = None) -> Failure:
    """Read what a context tells. Fields that it does not tell are unset; ids may be empty.

    :param level: Where it comes from, if that is known; else it is told from the context's shape.
    """
    ti = _first(safe_get(context, "ti"), safe_get(context, "task_instance"))
    run = safe_get(context, "dag_run")
    dag = safe_get(context, "dag")
    dag_id, run_id = ids(context)
    level = level or _level(context, ti)
    at_task = level in {"task", "operator"}
    max_tries = _number(safe_get(ti, "max_tries"), default=-1) if at_task else -1
    exception = safe_get(context, "exception")
    in_processor = level == "dag" or (level == "task" and not _is_of_the_task(context, ti))
    return Failure(
        **_run_facts(context, level, ti),
        attempt=_number(safe_get(ti, "try_number"), default=0) or None if at_task else None,
        attempts=max_tries + 1 if max_tries >= 0 else None,
        in_processor=in_processor,
        reason=_text(safe_get(context, "reason")) or None,
        failed_at=_moment(safe_get(ti if at_task else run, "end_date")) or datetime.now(UTC),
        deadline_at=_moment(safe_get(safe_get(context, "deadline"), "deadline_time")),
        exception_type=_type_name(exception),
        exception=_exception_text(exception, exception_detail),
        failed_tasks=_failed_tasks(dag, run, dag_id, run_id) if in_processor or level == "operator" else (),
        owners=_owners(safe_get(dag, "owner")),
        tags=_tags(safe_get(dag, "tags")),
    )


def read_success(context: Any, *, level: Level | None = None, scope: Scope = "run") -> Failure:
    """Read which run or task succeeded, in the words of the failure that it may have been before.

    :param level: As for `read_failure`.
    :param scope: What an incident stands for; where that is a task, those that a run failed with are read.
    """
    ti = _first(safe_get(context, "ti"), safe_get(context, "task_instance"))
    run = safe_get(context, "dag_run")
    level = level or _level(context, ti)
    failed = (
        _failed_tasks(safe_get(context, "dag"), run, *ids(context)) if level == "dag" and scope in TASK_SCOPES else ()
    )
    return Failure(**_run_facts(context, level, ti), in_processor=level == "dag", failed_tasks=failed)


def _run_facts(context: Any, level: Level, ti: Any) -> dict[str, Any]:
    """Read which run it is, and which task instance of it, for a success as for a failure."""
    run = safe_get(context, "dag_run")
    dag_id, run_id = ids(context)
    at_task = level in {"task", "operator"}
    return {
        "dag_id": dag_id,
        "run_id": run_id,
        "level": level,
        "task_id": _text(safe_get(ti, "task_id")) or None if at_task else None,
        "map_index": _number(safe_get(ti, "map_index"), default=-1) if at_task else -1,
        "clear_count": _number(safe_get(run, "clear_number"), default=0),
        "run_type": _text(safe_get(run, "run_type")) or None,
        "logical_date": _moment(_first(safe_get(context, "logical_date"), safe_get(run, "logical_date"))),
        "run_after": _moment(safe_get(run, "run_after")),
        "started_at": _moment(safe_get(run, "start_date")),
    }


def ids(context: Any) -> tuple[str, str]:
    """Read DAG id and run id from wherever a context has them; empty where it has none."""
    ti = _first(safe_get(context, "ti"), safe_get(context, "task_instance"))
    run = safe_get(context, "dag_run")
    dag_ids = (safe_get(safe_get(context, "dag"), "dag_id"), safe_get(ti, "dag_id"), safe_get(run, "dag_id"))
    run_ids = (
        safe_get(context, "run_id"),
        safe_get(run, "run_id"),
        safe_get(run, "dag_run_id"),
        safe_get(ti, "run_id"),
    )
    return next(filter(None, map(_text, dag_ids)), ""), next(filter(None, map(_text, run_ids)), "")


def render(template: str, context: Any) -> str:
    """Render a Jinja template with a context, which stays as it is; what the context lacks is empty.

    :raises Exception: whatever a broken template or a macro raises.
    """
    with within(DETAIL_PATIENCE):
        return _render(template, context)


def _render(template: str, context: Any) -> str:
    from jinja2 import ChainableUndefined
    from jinja2.sandbox import SandboxedEnvironment

    # In `airflow dags test` the DAG can be one that has no environment: apache/airflow#64649.
    make = safe_get(safe_get(context, "dag"), "get_template_env")
    try:
        environment = make(force_sandboxed=True)
    except CONTEXT_ERRORS:
        environment = SandboxedEnvironment(cache_size=0)
    forgiving = environment.overlay(undefined=ChainableUndefined)
    parsed = forgiving.from_string(template)
    # Not a copy: to read every variable of Airflow 2.11's context is to be warned of every deprecated one.
    known: Any = context if isinstance(context, Mapping) else {}
    variables: Any = ChainMap({}, known, parsed.globals)
    return "".join(parsed.root_render_func(forgiving.context_class(forgiving, variables, parsed.name, parsed.blocks)))


def safe_get(thing: Any, name: str) -> Any:
    """Get an item or an attribute, or None: contexts hold proxies and properties that raise what they like."""
    try:
        return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
    except CONTEXT_ERRORS:  # a property of Airflow's may raise anything
        return None


def _suppress(default: D) -> Callable[[Callable[P, T]], Callable[P, T | D]]:
    """Make a reader answer `default` where the value raises at its touch."""

    def calm(read: Callable[P, T]) -> Callable[P, T | D]:
        @wraps(read)
        def reader(*args: P.args, **kwargs: P.kwargs) -> T | D:
            try:
                return read(*args, **kwargs)
            except CONTEXT_ERRORS:
                return default

        return reader

    return calm


def _has(context: Any, name: str) -> bool:
    return isinstance(context, Mapping) and name in context


def _level(context: Any, ti: Any) -> Level:
    """Tell who calls. Only the DAG's callback has a reason; a deadline's context has a deadline and no task."""
    if safe_get(context, "deadline") is not None:
        return "deadline"
    if _has(context, "reason") or ti is None:
        return "dag"
    return "task"


def _is_of_the_task(context: Any, ti: Any) -> bool:
    """Tell a task's own process from the DAG processor, which knows of a lost task neither exception nor start.

    The exception alone would not do: `dag.test()` leaves it out from Airflow 3.0 to 3.2.
    """
    return _has(context, "exception") or safe_get(ti, "start_date") is not None


def _failed_tasks(dag: Any, run: Any, dag_id: str, run_id: str) -> tuple[str, ...]:
    """List the run's failed task instances, where this Airflow and this process can tell them."""
    try:
        with within(DETAIL_PATIENCE):
            if supervisor() is not None:
                return _failed_by_supervisor(dag, dag_id, run_id) if _has_answers() else ()
            if hasattr(run, "get_task_instances"):
                found = run.get_task_instances(state=["failed"])
                return tuple(sorted(_label(t.task_id, t.map_index) for t in found))
    except CONTEXT_ERRORS:  # an unlisted task is better than an unreported failure
        return ()
    return ()


def _has_answers() -> bool:
    """Return whether states of tasks can be asked for: Airflow 3.0's DAG processor would never answer."""
    processor = sys.modules.get(PROCESSOR)
    return processor is None or hasattr(processor, "GetTaskStates")


def _failed_by_supervisor(dag: Any, dag_id: str, run_id: str) -> tuple[str, ...]:
    states_of = sys.modules[TASK_RUNNER].RuntimeTaskInstance.get_task_states
    states = states_of(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
    known = set(safe_get(dag, "task_ids") or ())
    failed = (_split(key, known) for key, state in states.items() if str(state) == "failed")
    return tuple(_label(*task) for task in sorted(failed))


def _split(key: str, known: set[str]) -> tuple[str, int]:
    """Read `task_id` or `task_id_mapindex`."""
    task_id, _, index = key.rpartition("_")
    return (task_id, int(index)) if key not in known and task_id in known and index.isdigit() else (key, -1)


def _label(task_id: str, map_index: int) -> str:
    return f"{task_id}[{map_index}]" if map_index >= 0 else task_id


@_suppress(None)
def _type_name(exception: Any) -> str | None:
    if exception is None or isinstance(exception, str):
        return None
    kind = type(exception)
    module = kind.__module__
    return kind.__qualname__ if module in {"builtins", "__main__"} else f"{module}.{kind.__qualname__}"


def _exception_text(exception: Any, detail: str) -> str | None:
    """Read as much of an exception as is wanted; some have a `__str__` that raises, even SystemExit."""
    try:
        if exception is None or (detail == "type" and not isinstance(exception, str)):
            return None
        if detail == "traceback" and isinstance(exception, BaseException):
            text = "".join(traceback.format_exception(exception))
            end = ending(text)
            return end if end == text else f"Traceback (its end):\n{end}"
        return beginning(str(exception)) or None
    except CONTEXT_ERRORS:
        return "(the exception has no readable text)"


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


@_suppress("")
def _text(value: Any) -> str:
    """Read a string, also one of Airflow's string enumerations."""
    if not isinstance(value, str):
        return ""
    return str(getattr(value, "value", value))


def _number(value: Any, *, default: int) -> int:
    return value if issubclass(type(value), int) and not isinstance(value, bool) else default


@_suppress(None)
def _moment(value: Any) -> datetime | None:
    """Read a date and time, also as text, as the triggerer has it."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


def _owners(value: Any) -> tuple[str, ...]:
    """Read a DAG's owners; `airflow` is the name of those that have none."""
    names = (name.strip() for name in _text(value).split(","))
    return tuple(name for name in names if name not in {"", "airflow"})


@_suppress(())
def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str):
        return ()
    return tuple(sorted(_text(_first(safe_get(tag, "name"), tag)) for tag in value))
