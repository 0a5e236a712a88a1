"""Zero touch, carried out: our callbacks go into the DAGs and tasks that airflow.cfg covers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_incident.constants import CONFIG_SECTION, TAG, TASK_SCOPES
from airflow_incident.core.settings import Settings, merge, read_tags, why_left_out
from airflow_incident.core.text import log_line
from airflow_incident.notifications import QuietNotifier, notifier_class, open_incident, resolve_incident

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = ("auto_open", "auto_resolve", "auto_include", "auto_exclude", "scope")
FLUSH = "airflow_incident.flush_dag"
KINDS = ("on_failure_callback", "on_success_callback")

log = logging.getLogger(__name__)


class ZeroTouch:
    """Puts our callbacks before those that a DAG and its tasks have.

    Airflow loads one DAG after the other, each one's tasks right after itself. What is decided for a DAG, before it
    has anything of ours, therefore holds for the tasks that come next.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._decided: tuple[Any, dict[str, QuietNotifier]] = (None, {})

    def enter_dag(self, dag: Any) -> None:
        """Put them at the level of a DAG, and decide about its tasks."""
        self._decided = (None, {})
        callbacks = self._callbacks_for(dag)
        for kind, callback in callbacks.items():
            _prepend(dag, kind, callback)
            # Airflow asks this flag, which it has set when the DAG was made.
            setattr(dag, f"has_{kind}", True)
        self._decided = (dag, callbacks)

    def enter_task(self, task: Any) -> None:
        """Put them at the level of a task, if its DAG is the one that was decided about."""
        dag, callbacks = self._decided
        if dag is None or task.dag is not dag or _has_ours(task):
            return
        for kind, callback in callbacks.items():
            # A task's recovery closes something only where an incident stands for a task.
            if kind == "on_failure_callback" or self.settings.scope in TASK_SCOPES:
                _prepend(task, kind, callback)

    def _callbacks_for(self, dag: Any) -> dict[str, QuietNotifier]:
        if why_left_out(dag.dag_id, self.settings) or _is_of_its_author(dag):
            return {}
        wishes = read_tags(dag.tags or ())
        if wishes.wrong:
            ignored = ", ".join(wishes.wrong)
            known = f"{TAG}off, {TAG}severity=…, {TAG}conn=…"
            log.warning(
                "%s", log_line(f"incident.io: DAG {dag.dag_id}: tags ignored: {ignored}. Known, each once: {known}")
            )
        if wishes.off:
            return {}
        callbacks: dict[str, QuietNotifier] = {}
        if self.settings.auto_open:
            callbacks["on_failure_callback"] = open_incident(severity=wishes.severity, conn_id=wishes.conn_id or "")
        if self.settings.auto_resolve:
            callbacks["on_success_callback"] = resolve_incident(conn_id=wishes.conn_id or "")
        return callbacks


def read_zero_touch() -> ZeroTouch | None:
    """Read what airflow.cfg says; None if it asks for nothing.

    Only these are read: an error about another option may hold what nobody may see.
    """
    from airflow_incident.airflow_bridge.compat import conf

    config = {name: conf.get(CONFIG_SECTION, name, fallback="") for name in OPTIONS}
    settings, problems, _ = merge(config=config)
    for problem in problems:
        log.warning("%s", log_line(f"incident.io: {problem}"))
    return ZeroTouch(settings) if settings.auto_open or settings.auto_resolve else None


def _is_of_its_author(dag: Any) -> bool:
    """Return whether a DAG has callbacks of ours, or delivers what they could not.

    They share one key, and the first to come decides: a callback in another place would go before their options.
    """
    return _has_ours(dag) or any(_has_ours(task) or _flushes(task) for task in dag.tasks)


def _has_ours(owner: Any) -> bool:
    return any(notifier_class(callback) for kind in KINDS for callback in _given(owner, kind))


def _flushes(task: Any) -> bool:
    return getattr(getattr(task, "python_callable", None), "__module__", None) == FLUSH


def _prepend(owner: Any, kind: str, callback: QuietNotifier) -> None:
    """Put ours first, so that a slow neighbour cannot keep it from starting; the list given may be shared."""
    setattr(owner, kind, [callback, *_given(owner, kind)])


def _given(owner: Any, kind: str) -> Iterator[Any]:
    """Yield what a DAG or a task has: nothing, one callback, or several."""
    given = getattr(owner, kind, None)
    if callable(given):
        yield given
    elif given is not None:
        yield from given
