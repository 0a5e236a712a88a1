"""What the DAG's own file says: which of our callbacks a failure meets, and which arguments those were given."""

from __future__ import annotations

import inspect
import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.core.arguments import kinds_of, usable
from airflow_incident.notifications import IncidentNotifier, notifier_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class FirstCallback(NamedTuple):
    """Where a failure's first callback of ours is, empty if it has none, and what that was given.

    `unknown` is why nobody can say; `note` is what a reader should know.
    """

    place: str = ""
    arguments: Mapping[str, Any] = {}
    unknown: str = ""
    note: str = ""


def read_first_callback(dag_id: str, task_id: str | None) -> FirstCallback:
    """Load the file of a DAG as Airflow does, policies included, and look at its callbacks.

    :param task_id: The task that failed; None for the run as a whole, of which the DAG's callback is told, or else
        that of a task.
    """
    try:
        dag = _load(dag_id)
        tasks = dag.tasks if task_id is None else [dag.get_task(task_id)]
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a DAG file may raise anything
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".removeprefix("LookupError: ")
        return FirstCallback(unknown=f"What the DAG's callbacks were given cannot be known here: {why}.")
    of_dag = [("the DAG's on_failure_callback", given) for given in _given(dag)]
    of_tasks = [(f"on_failure_callback of task {task.task_id}", given) for task in tasks for given in _given(task)]
    found = of_dag + of_tasks if task_id is None else of_tasks + of_dag
    if not found and any(_callbacks(owner) for owner in (dag, *tasks)):
        return FirstCallback(
            unknown="Whether the DAG's callbacks, which are functions of its own, call ours cannot be known."
        )
    if not found:
        return FirstCallback()
    place, arguments = found[0]
    others = [other for other, given in found if given != arguments]
    told = f"The options of {others[0]} differ; whichever callback is called first decides." if others else ""
    return FirstCallback(place, arguments, note=told)


def _load(dag_id: str) -> Any:
    """Load a DAG from the file that Airflow's database names.

    :raises LookupError: if that cannot be done here.
    """
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from airflow_incident.airflow_bridge.compat import DagBag, conf

    with create_session() as session:
        file = session.scalar(select(DagModel.fileloc).where(DagModel.dag_id == dag_id))
    if not file or not Path(file).is_file():
        raise LookupError(f"its file {file or ''} is not on this host")
    if (folder := conf.get("core", "dags_folder")) not in sys.path:
        sys.path.append(folder)  # as Airflow does before it loads what is in it
    logging.disable()  # what a DAG file logs, or why it cannot be imported, is said below
    try:
        bag = DagBag(file, collect_dags=False)  # else 2.11 loads its examples, too
        bag.process_file(file)  # type: ignore[no-untyped-call]  # as Airflow has it
    finally:
        logging.disable(logging.NOTSET)
    if dag_id in bag.dags:
        return bag.dags[dag_id]
    lines = [line for text in bag.import_errors.values() for line in text.strip().splitlines()]
    raise LookupError(f"{file} {f'cannot be imported: {lines[-1].strip()}' if lines else 'has no such DAG any more'}")


def _callbacks(owner: Any) -> list[Any]:
    """Return what a DAG or a task has: nothing, one callback, or several."""
    callbacks = getattr(owner, "on_failure_callback", None) or []
    return [callbacks] if callable(callbacks) else list(callbacks)


def _given(owner: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the arguments of each callback of ours that a DAG or a task has."""
    for callback in _callbacks(owner):
        kind = notifier_class(callback)
        if kind is not None and issubclass(kind, IncidentNotifier):
            yield _arguments(callback)


def _arguments(callback: Any) -> dict[str, Any]:
    """Read them of whatever form a callback has; without parentheses there are none."""
    bound: dict[str, Any] = {}
    while isinstance(callback, partial):
        bound = callback.keywords | bound
        callback = callback.func
    notifier = callback.__self__ if inspect.ismethod(callback) else callback
    if isinstance(notifier, IncidentNotifier):
        given = {"conn_id": notifier.conn_id or None, **notifier.templates, **notifier.options}
    else:
        given, _ = usable("open_incident", bound, kinds_of(IncidentNotifier.__init__))
    return {name: value for name, value in given.items() if value is not None}
