"""Airflow's own database, read by whoever has it: a handful of queries, each by an index and each bounded.

Nothing is written here, no decision is made, and no query depends on Airflow's version but where a name says so.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.constants import BACKFILL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

MOST_RUNS = 20_000
"""Runs that one query returns at most; a later one returns the rest."""
MOST_FILES = 1_000
"""DAG files that do not import, of which one query tells."""
UNFINISHED = ("running", "queued")


class Run(NamedTuple):
    """A DAG run as its table has it. `id` grows with each new run."""

    id: int
    dag_id: str
    run_id: str
    state: str
    clear_count: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    run_type: str = ""


class File(NamedTuple):
    """A DAG file, as Airflow names it. Before Airflow 3 there are no bundles."""

    path: str
    bundle: str = ""

    def __str__(self) -> str:
        return f"{self.bundle}/{self.path}" if self.bundle else self.path


StoredText = tuple[str, bool]
"""A Variable's text as it is stored, encrypted as a rule, and whether it is: it changes with each write."""
TaskStates = dict[tuple[str, str], dict[str, dict[int, str]]]
"""By DAG and run: the state of each task's instances, by task and map index."""


class Database:
    """Reads within one transaction, which sees one moment."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def texts(self, prefix: str) -> dict[str, StoredText]:
        """Return the Variables whose key begins with a prefix, as they are stored."""
        from sqlalchemy import select

        table = _variables()
        columns = (table.c.key, table.c.val, table.c.is_encrypted)
        rows = self._session.execute(select(*columns).where(table.c.key.startswith(prefix, autoescape=True)))
        return {name: (text, bool(encrypted)) for name, text, encrypted in rows}

    def decoded(self, names: Sequence[str]) -> dict[str, str]:
        """Return the texts of these Variables; what cannot be decrypted is left out."""
        from airflow.models import Variable
        from sqlalchemy import select

        if not names:
            return {}
        model: Any = Variable  # noqa: AIR311 -- where there is no supervisor, the SDK's finds nothing
        rows = self._session.scalars(select(model).where(model.key.in_(names)))
        return {row.key: text for row in rows if isinstance(text := row.val, str)}

    def unfinished(self) -> list[Run]:
        """Return the runs that have not ended: few, each state with an index of its own, which `IN` would not use."""
        from sqlalchemy import or_

        runs = _runs()
        return self._read_runs(or_(*(runs.c.state == state for state in UNFINISHED)))

    def runs_after(self, run_id: int) -> list[Run]:
        """Return the runs that are newer than the one with this ID, the oldest first."""
        return self._read_runs(_runs().c.id > run_id)

    def runs_with(self, ids: Iterable[int]) -> list[Run]:
        """Return the runs with these IDs."""
        ids = list(ids)
        return self._read_runs(_runs().c.id.in_(ids)) if ids else []

    def newest(self) -> int:
        """Return the ID of the newest run, 0 if there is none."""
        from sqlalchemy import func, select

        return self._session.execute(select(func.max(_runs().c.id))).scalar() or 0

    def failed_since(self, moment: datetime) -> list[Run]:
        """Return the failed runs that have ended since: no index helps, so it is asked for seldom."""
        runs = _runs()
        return self._read_runs(runs.c.state == "failed", runs.c.end_date >= moment)

    def runs_of(self, names: Iterable[tuple[str, str]]) -> list[Run]:
        """Return the runs with these DAG and run IDs."""
        from sqlalchemy import tuple_

        names, runs = list(names), _runs()
        return self._read_runs(tuple_(runs.c.dag_id, runs.c.run_id).in_(names), most=len(names)) if names else []

    def latest_successes(self, dags: Iterable[tuple[str, bool]]) -> dict[tuple[str, bool], Run]:
        """Return of each DAG the successful run that stands for the latest moment.

        :param dags: Each by its ID, and whether only the runs of backfills count.
        """
        asked: dict[bool, list[str]] = {}
        for dag_id, of_backfills in dags:
            asked.setdefault(of_backfills, []).append(dag_id)
        return {
            (run.dag_id, of_backfills): run
            for of_backfills, dag_ids in asked.items()
            for run in self._latest_successes(dag_ids, of_backfills=of_backfills)
        }

    def _latest_successes(self, dag_ids: Sequence[str], *, of_backfills: bool) -> list[Run]:
        from airflow.models import DagModel
        from sqlalchemy import func, select

        dags: Any = DagModel.__table__
        runs, each = _runs(), _runs().alias()
        # From Airflow 3 on a run need have no logical date: assets start it, or a person.
        is_new = "logical_date" in each.c
        moment = func.coalesce(each.c.logical_date, each.c.run_after) if is_new else each.c.execution_date
        mine = select(each.c.id).where(each.c.dag_id == dags.c.dag_id, each.c.state == "success")
        if of_backfills:
            mine = mine.where(each.c.run_type == BACKFILL)
        latest = mine.where(moment.is_not(None)).order_by(moment.desc()).limit(1).correlate(dags).scalar_subquery()
        found = select(*_columns(runs)).select_from(dags.join(runs, runs.c.id == latest))
        return list(map(_run, self._session.execute(found.where(dags.c.dag_id.in_(dag_ids)))))

    def task_states(self, tasks: Iterable[tuple[str, str, str]]) -> TaskStates:
        """Return the states of these tasks' instances, each by DAG, run and task ID."""
        from airflow.models import TaskInstance
        from sqlalchemy import select, tuple_

        tasks = list(tasks)
        if not tasks:
            return {}
        table: Any = TaskInstance.__table__
        wanted = tuple_(table.c.dag_id, table.c.run_id, table.c.task_id).in_(tasks)
        columns = (table.c.dag_id, table.c.run_id, table.c.task_id, table.c.map_index, table.c.state)
        states: TaskStates = {}
        for dag_id, run_id, task_id, index, state in self._session.execute(select(*columns).where(wanted)):
            states.setdefault((dag_id, run_id), {}).setdefault(task_id, {})[index] = str(state or "")
        return states

    def broken_files(self) -> list[File]:
        """Return the DAG files that cannot be imported, whatever `[core] multi_team` says."""
        from sqlalchemy import select

        table = _import_errors()
        columns = [table.c.filename, *([table.c.bundle_name] if "bundle_name" in table.c else [])]
        # In the order in which they broke: one that falls off the end of too many must not count as mended.
        found = select(*columns).where(table.c.filename.is_not(None)).order_by(table.c.id).limit(MOST_FILES)
        rows = self._session.execute(found)
        return [File(path, *(bundle or "" for bundle in bundles)) for path, *bundles in rows]

    def import_error(self, file: File) -> str:
        """Return the traceback of a file that cannot be imported."""
        from sqlalchemy import select

        table = _import_errors()
        mine = select(table.c.stacktrace).where(table.c.filename == file.path)
        if "bundle_name" in table.c:
            mine = mine.where(table.c.bundle_name == (file.bundle or None))
        return self._session.execute(mine.limit(1)).scalar() or ""

    def dags_of(self, file: File) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        """Return the DAGs that a file held when it was imported last, each with its tags; and their owners."""
        from airflow.models import DagModel
        from sqlalchemy import or_

        dags: Any = DagModel.__table__
        if "relative_fileloc" in dags.c:
            path = or_(dags.c.relative_fileloc == file.path, dags.c.fileloc == file.path)
            mine = [path, dags.c.bundle_name == (file.bundle or None)]
        else:
            mine = [dags.c.fileloc == file.path]
        return self._facts_of_dags(*mine)

    def facts_of(self, dag_id: str) -> dict[str, Any]:
        """Return what Airflow's tables of DAGs and tags say of a DAG that cannot be read itself."""
        from airflow.models import DagModel

        dags: Any = DagModel.__table__
        tagged, owners = self._facts_of_dags(dags.c.dag_id == dag_id)
        return {"dag_id": dag_id, "tags": tagged.get(dag_id, ()), "owner": ", ".join(owners)}

    def _facts_of_dags(self, *where: Any) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        from airflow.models import DagModel
        from airflow.models.dag import DagTag
        from sqlalchemy import select

        dags: Any = DagModel.__table__
        tags: Any = DagTag.__table__
        rows = list(self._session.execute(select(dags.c.dag_id, dags.c.owners).where(*where).order_by(dags.c.dag_id)))
        tagged: dict[str, tuple[str, ...]] = {dag_id: () for dag_id, _ in rows}
        for dag_id, tag in self._session.execute(select(tags.c.dag_id, tags.c.name).where(tags.c.dag_id.in_(tagged))):
            tagged[dag_id] += (tag,)
        owners = dict.fromkeys(name.strip() for _, names in rows for name in (names or "").split(","))
        return tagged, tuple(filter(None, owners))

    def _read_runs(self, *where: Any, most: int = MOST_RUNS) -> list[Run]:
        from sqlalchemy import select

        runs = _runs()
        return list(
            map(_run, self._session.execute(select(*_columns(runs)).where(*where).order_by(runs.c.id).limit(most)))
        )


@contextmanager
def database() -> Iterator[Database]:
    """Open Airflow's database.

    :raises Exception: whatever Airflow or the database raises.
    """
    from airflow.utils.session import create_session

    with create_session() as session:
        yield Database(session)


def run_context(run: Run, *, task: str | None = None) -> dict[str, Any] | None:
    """Make of a run what Airflow gives the callbacks of its DAG, or of one of its tasks.

    None if the run is gone by now, was cleared, or has another state: what was decided about it may be wrong.

    :param task: Label of the task instance; of the DAG's own callback without it.
    """
    from airflow.models import DagRun
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session

    with create_session() as session:
        row = session.get(DagRun, run.id)
        if row is None or (str(row.state or ""), row.clear_number or 0) != (run.state, run.clear_count):
            return None
        try:
            dag: Any = SerializedDagModel.get_dag(run.dag_id, session=session)
        except Exception:  # noqa: BLE001 -- one that cannot be read costs what it would tell; the database is asked again
            dag = None
        if dag is None:
            dag = Database(session).facts_of(run.dag_id)
        context: dict[str, Any] = {"dag": dag, "dag_run": row, "run_id": run.run_id}
        states: Any = None if task else ["failed"]
        found = sorted(row.get_task_instances(state=states, session=session), key=lambda ti: (ti.task_id, ti.map_index))
        mine = [ti for ti in found if task is None or task in {ti.task_id, f"{ti.task_id}[{ti.map_index}]"}]
        session.expunge_all()
    if task is None:
        context["reason"] = "no_task_failed" if row.state == "failed" and not mine else ""
    return context | ({"ti": mine[0]} if mine else {})


def texts_in_database(prefix: str) -> dict[str, str]:
    """Read the Variables whose key begins with a prefix, by name: one query.

    No secrets backend is asked: what we write is in the database.
    """
    from airflow.models import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import select

    model: Any = Variable  # noqa: AIR311 -- as above
    with create_session() as session:
        rows = session.scalars(select(model).where(model.key.startswith(prefix, autoescape=True)).order_by(model.key))
        return {row.key: text for row in rows if isinstance(text := row.val, str)}


def _runs() -> Any:
    from airflow.models import DagRun

    return DagRun.__table__


def _variables() -> Any:
    from airflow.models import Variable

    model: Any = Variable  # noqa: AIR311 -- as above
    return model.__table__


def _import_errors() -> Any:
    from airflow.models.errors import ParseImportError

    return ParseImportError.__table__


def _columns(runs: Any) -> Sequence[Any]:
    names = ("id", "dag_id", "run_id", "state", "clear_number", "start_date", "end_date", "run_type")
    return [runs.c[name] for name in names]


def _run(row: Any) -> Run:
    number, dag_id, run_id, state, clear_count, started_at, ended_at, run_type = row
    return Run(number, dag_id, run_id, str(state or ""), clear_count or 0, started_at, ended_at, str(run_type or ""))
