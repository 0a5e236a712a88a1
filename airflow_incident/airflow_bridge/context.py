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
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.channel import within
from airflow_incident.airflow_bridge.compat import PROCESSOR, TASK_RUNNER, supervisor
from airflow_incident.constants import TASK_SCOPES
from airflow_incident.core.failure import Failure
from airflow_incident.core.text import beginning, ending
from airflow_incident.core.timing import DETAIL_PATIENCE

if TYPE_CHECKING:
    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Level

    Read = Callable[[Any], Any]

CONTEXT_ERRORS = (Exception, SystemExit)
"""What an object of a context may raise when it is touched; `sys.exit()` in one would end Airflow's process."""


def _text(value: Any) -> str | None:
    """Read a string, also one of Airflow's string enumerations."""
    return str(getattr(value, "value", value)) or None if issubclass(type(value), str) else None


def _number(value: Any) -> int | None:
    return value if issubclass(type(value), int) and not isinstance(value, bool) else None


def _attempt(value: Any) -> int | None:
    return _number(value) or None


def _attempts(value: Any) -> int | None:
    tries = _number(value)
    return None if tries is None or tries < 0 else tries + 1


def _moment(value: Any) -> datetime | None:
    """Read a date and time, also as text, as the triggerer has it."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


def read_owners(value: Any) -> tuple[str, ...]:
    """Read a DAG's owners; `airflow` is the name of those that have none."""
    names = (name.strip() for name in (_text(value) or "").split(","))
    return tuple(name for name in names if name not in {"", "airflow"})


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, Iterable) or isinstance(value, str):
        return ()
    names = (safe_get(tag, "name", read=_text) or _text(tag) for tag in value)
    return tuple(sorted(filter(None, names)))


def _type_name(exception: Any) -> str | None:
    if exception is None or isinstance(exception, str):
        return None
    kind = type(exception)
    module = kind.__module__
    return kind.__qualname__ if module in {"builtins", "__main__"} else f"{module}.{kind.__qualname__}"


_DAG_ID = ("dag.dag_id", "ti.dag_id", "task_instance.dag_id", "dag_run.dag_id")
_RUN_ID = ("run_id", "dag_run.run_id", "dag_run.dag_run_id", "ti.run_id", "task_instance.run_id")

# Each fact, how it is read, and where: the first place that tells it counts.
_Facts = tuple[tuple[str, "Read", tuple[str, ...]], ...]
_OF_RUN: _Facts = (
    ("dag_id", _text, _DAG_ID),
    ("run_id", _text, _RUN_ID),
    ("clear_count", _number, ("dag_run.clear_number",)),
    ("run_type", _text, ("dag_run.run_type",)),
    ("logical_date", _moment, ("logical_date", "dag_run.logical_date")),
    ("run_after", _moment, ("dag_run.run_after",)),
    ("started_at", _moment, ("dag_run.start_date",)),
)
_OF_TASK: _Facts = (
    ("task_id", _text, ("ti.task_id", "task_instance.task_id")),
    ("map_index", _number, ("ti.map_index", "task_instance.map_index")),
)
_OF_DAG: _Facts = (("owners", read_owners, ("dag.owner",)), ("tags", _tags, ("dag.tags",)))
_OF_FAILURE: _Facts = (
    ("reason", _text, ("reason",)),
    ("deadline_at", _moment, ("deadline.deadline_time",)),
    ("exception_type", _type_name, ("exception",)),
    *_OF_DAG,
)
_OF_FAILED_RUN: _Facts = (("failed_at", _moment, ("dag_run.end_date",)),)
_OF_FAILED_TASK: _Facts = (
    ("attempt", _attempt, ("ti.try_number", "task_instance.try_number")),
    ("attempts", _attempts, ("ti.max_tries", "task_instance.max_tries")),
    ("failed_at", _moment, ("ti.end_date", "task_instance.end_date")),
)


def read_failure(context: Any, *, exception_detail: str = "message", level: Level | None = None) -> Failure:
    """Read what a context tells. Fields that it does not tell are unset; ids may be empty.

    :param level: Where it comes from, if that is known; else it is told from the context's shape.
    """
    level = level or _level(context)
    of_this = _OF_FAILED_TASK if level in {"task", "operator"} else _OF_FAILED_RUN
    facts = {"failed_at": datetime.now(UTC)} | _facts(context, level, (*_OF_FAILURE, *of_this))
    if level == "dag" or (level == "task" and not _is_of_the_task(context)):
        facts["in_processor"] = True
    if "in_processor" in facts or level == "operator":
        facts["failed_tasks"] = _failed_tasks(context, facts["dag_id"], facts["run_id"])
    return Failure(**facts, exception=_exception_text(safe_get(context, "exception"), exception_detail))


def read_success(context: Any, *, level: Level | None = None, scope: Scope = "run") -> Failure:
    """Read which run or task succeeded, in the words of the failure that it may have been before.

    :param level: As for `read_failure`.
    :param scope: What an incident stands for; where that is a task, those that a run failed with are read.
    """
    level = level or _level(context)
    facts = _facts(context, level)
    if level == "dag" and scope in TASK_SCOPES:
        facts["failed_tasks"] = _failed_tasks(context, facts["dag_id"], facts["run_id"])
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
    return safe_get(context, *_DAG_ID, read=_text) or "", safe_get(context, *_RUN_ID, read=_text) or ""


def safe_get(thing: Any, *places: str, read: Read | None = None) -> Any:
    """Read a value from the first place that has one, or None: proxies and properties raise what they like."""
    for place in places:
        value = thing
        try:
            for name in place.split("."):
                value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
            if read:
                value = read(value)
        except CONTEXT_ERRORS:
            continue
        if value is not None:
            return value
    return None


def render(template: str, context: Any) -> str:
    """Render a Jinja template with a context, which stays as it is; what the context lacks is empty.

    :raises Exception: whatever a broken template or a macro raises.
    """
    from jinja2 import ChainableUndefined
    from jinja2.sandbox import SandboxedEnvironment

    with within(DETAIL_PATIENCE):
        try:
            environment = safe_get(context, "dag.get_template_env")(force_sandboxed=True)
        except CONTEXT_ERRORS:  # in `airflow dags test` the DAG can be one that has none: apache/airflow#64649
            environment = SandboxedEnvironment(cache_size=0)
        forgiving = environment.overlay(undefined=ChainableUndefined)
        parsed = forgiving.from_string(template)
        # Not a copy: to read every variable of Airflow 2.11's context is to be warned of every deprecated one.
        known: Any = context if isinstance(context, Mapping) else {}
        variables: Any = ChainMap({}, known, parsed.globals)
        made = forgiving.context_class(forgiving, variables, parsed.name, parsed.blocks)
        return "".join(parsed.root_render_func(made))


def _level(context: Any) -> Level:
    """Tell who calls. Only the DAG's callback has a reason; a deadline's context has a deadline and no task."""
    if safe_get(context, "deadline") is not None:
        return "deadline"
    has_reason = isinstance(context, Mapping) and "reason" in context
    return "dag" if has_reason or safe_get(context, "ti", "task_instance") is None else "task"


def _is_of_the_task(context: Any) -> bool:
    """Tell a task's own process from the DAG processor, which knows of a lost task neither exception nor start.

    The exception alone would not do: `dag.test()` leaves it out from Airflow 3.0 to 3.2.
    """
    has_exception = isinstance(context, Mapping) and "exception" in context
    return has_exception or safe_get(context, "ti.start_date", "task_instance.start_date") is not None


def _failed_tasks(context: Any, dag_id: str, run_id: str) -> tuple[str, ...]:
    """List the run's failed task instances, where this Airflow and this process can tell them."""
    try:
        with within(DETAIL_PATIENCE):
            if supervisor() is None:
                found = safe_get(context, "dag_run").get_task_instances(state=["failed"])
                failed = [(task.task_id, task.map_index) for task in found]
            else:
                failed = _failed_by_supervisor(context, dag_id, run_id)
            return tuple(f"{task}[{index}]" if index >= 0 else task for task, index in sorted(failed))
    except CONTEXT_ERRORS:  # an unlisted task is better than an unreported failure
        return ()


def _failed_by_supervisor(context: Any, dag_id: str, run_id: str) -> list[tuple[str, int]]:
    processor = sys.modules.get(PROCESSOR)
    if processor is not None and not hasattr(processor, "GetTaskStates"):
        return []  # Airflow 3.0's DAG processor would never answer
    states_of = sys.modules[TASK_RUNNER].RuntimeTaskInstance.get_task_states
    states = states_of(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
    known = set(safe_get(context, "dag.task_ids") or ())
    failed = []
    for key in (key for key, state in states.items() if str(state) == "failed"):
        task_id, _, index = key.rpartition("_")  # `task_id`, or `task_id_mapindex`
        is_mapped = key not in known and task_id in known and index.isdigit()
        failed.append((task_id, int(index)) if is_mapped else (key, -1))
    return failed


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
