"""How objects of Airflow are read. Nothing in them is taken for granted: what raises when it is touched is unknown."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.airflow_bridge.channel import within
from airflow_incident.airflow_bridge.compat import PROCESSOR, TASK_RUNNER, supervisor
from airflow_incident.constants import WELL
from airflow_incident.core.timing import DETAIL_PATIENCE

if TYPE_CHECKING:
    from airflow_incident.core.failure import Failure

Read = Callable[[Any], Any]

CONTEXT_ERRORS = (Exception, SystemExit)
"""What an object of a context may raise when it is touched; `sys.exit()` in one would end Airflow's process."""


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


def read_text(value: Any) -> str | None:
    """Read a string, also one of Airflow's string enumerations."""
    return str(getattr(value, "value", value)) or None if issubclass(type(value), str) else None


def read_moment(value: Any) -> datetime | None:
    """Read a date and time, also as text, as the triggerer has it."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


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


def read_span(value: Any) -> timedelta | None:
    """Read how long something may take, also as a number of seconds, as sensors have it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = timedelta(seconds=value)
    return value if isinstance(value, timedelta) else None


class TaskState(NamedTuple):
    """A task instance of a run, its state, and its rendered map index, which may be unknown."""

    task_id: str
    map_index: int
    state: str
    map_name: str = ""

    @property
    def label(self) -> str:
        """The task with its map index, as Airflow's UI shows it."""
        return f"{self.task_id}[{self.map_index}]" if self.map_index >= 0 else self.task_id


def task_states(context: Any, dag_id: str, run_id: str, *, only: str | None = "failed") -> list[TaskState]:
    """List the states of a run's task instances in order, where this Airflow and this process can tell them.

    :param only: The state that its database is asked for; None asks for all.
    """
    try:
        with within(DETAIL_PATIENCE):
            if supervisor() is not None:
                return sorted(_states_by_supervisor(context, dag_id, run_id))
            found = safe_get(context, "dag_run").get_task_instances(state=only and [only])
            return sorted(
                TaskState(
                    task.task_id,
                    task.map_index,
                    only or safe_get(task, "state", read=read_text) or "",
                    safe_get(task, "rendered_map_index", read=read_text) or "",
                )
                for task in found
            )
    except CONTEXT_ERRORS:  # an unlisted task is better than an unreported failure
        return []


def are_others_well(context: Any, success: Failure) -> bool:
    """Return whether a mapped task's other instances are over and none has failed; if nobody can tell, they are not."""
    states = task_states(context, success.dag_id, success.run_id, only=None)
    others = [each for each in states if each.task_id == success.task_id and each.map_index != success.map_index]
    return bool(states) and all(each.state in WELL for each in others)


def count_instances(context: Any, failure: Failure) -> int | None:
    """Tell how many instances a mapped task has in its run, where its own process can tell it."""
    counted = safe_get(context, "expanded_ti_count")  # Airflow 2's
    if counted is None and supervisor() is not None:
        count = sys.modules[TASK_RUNNER].RuntimeTaskInstance.get_ti_count
        counted = count(dag_id=failure.dag_id, run_ids=[failure.run_id], task_ids=[failure.task_id])
    return counted if issubclass(type(counted), int) else None


def _states_by_supervisor(context: Any, dag_id: str, run_id: str) -> Iterator[TaskState]:
    processor = sys.modules.get(PROCESSOR)
    if processor is not None and not hasattr(processor, "GetTaskStates"):
        return  # Airflow 3.0's DAG processor would never answer
    states_of = sys.modules[TASK_RUNNER].RuntimeTaskInstance.get_task_states
    states = states_of(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
    known = set(safe_get(context, "dag.task_ids") or ())
    for key, state in states.items():
        task_id, _, index = key.rpartition("_")  # `task_id`, or `task_id_mapindex`
        is_mapped = key not in known and task_id in known and index.isdigit()
        yield TaskState(*((task_id, int(index)) if is_mapped else (key, -1)), read_text(state) or str(state))
