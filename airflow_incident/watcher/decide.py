"""What Airflow's database and the journal differ in, and what is to be done about it: facts in, actions out.

Neither database nor HTTP enters, and no clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from airflow_incident.constants import BACKFILL, FAILED, WELL
from airflow_incident.core.key import deployment_of
from airflow_incident.core.timing import CALLBACKS_FIRST, LOOK_BACK, RECOVERIES_FIRST
from airflow_incident.delivery.record import KEEP_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_incident.airflow_bridge.database import File, Run, TaskStates
    from airflow_incident.delivery.record import Record

_NAMED = ("/key/", "/sha256/")
"""What a key has in it that a deliberate step has named itself, or may have: one that was cut no longer tells."""
_OF_DAG = "/dag/"
"""What follows a deployment's name in a key, unless the name is so long that it was cut."""
NONE: Mapping[int, datetime] = MappingProxyType({})
_NOT_OF_RUNS = frozenset({"storm", "import"})


class Duties(NamedTuple):
    """What is to be opened and closed. `import_after` is how long a file may be broken; None leaves files alone.

    `covers` says of a DAG ID whether incidents may open for it, `always` whether a recovery closes also what a person
    has claimed.
    """

    opens: bool = False
    closes: bool = False
    import_after: timedelta | None = None
    covers: Callable[[str], bool] = bool
    always: bool = False


class Recovered(NamedTuple):
    """A run, or with a `task` its label, that is successful although a record says that its incident is open.

    `deployment` is the name that the record's key has, which a DAG file or an earlier airflow.cfg may have given.
    """

    run: Run
    conn_id: str
    channel: str
    scope: str
    task: str | None = None
    deployment: str | None = None


def looks_since(turned_on: datetime, records: Iterable[Record]) -> datetime:
    """Tell since when failed runs are looked for: what a full journal has forgotten may have been told.

    :param turned_on: When the watcher was, or what this has told before.
    """
    told = [record.written_at for record in records if record.is_delivered and record.level != "storm"]
    return max(turned_on, min(told)) if len(told) >= KEEP_RECORDS else turned_on


def failed_runs(
    runs: Iterable[Run],
    records: Iterable[Record],
    duties: Duties,
    *,
    since: datetime,
    now: datetime,
    left_out: Mapping[int, datetime] = NONE,
) -> tuple[list[Run], list[Run]]:
    """Tell which failed runs have no incident; and those that may get one still, by a callback.

    :param since: Before that moment nothing is looked for, see `looks_since`.
    :param left_out: Runs whose failure was to have no incident when it was looked at, and when they ended.
    """
    told: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        if _speaks_of_failure(record):
            told.setdefault((record.dag_id, record.run_id, record.clear_count), []).append(record)
    open_now: list[Run] = []
    later: list[Run] = []
    for run in {run.id: run for run in runs}.values():
        if run.state != "failed" or run.ended_at is None or not duties.covers(run.dag_id):
            continue
        if not max(since, now - LOOK_BACK) <= run.ended_at or left_out.get(run.id) == run.ended_at:
            continue
        of_run = told.get((run.dag_id, run.run_id, run.clear_count), ())
        if any(not (record.is_delivered and record.is_of_earlier_start(run.started_at)) for record in of_run):
            continue
        (open_now if run.ended_at <= now - CALLBACKS_FIRST else later).append(run)
    return open_now, later


def _speaks_of_failure(record: Record) -> bool:
    """Return whether a record is about a run's failure: not one that a deliberate step has named, or was refused."""
    if record.level in _NOT_OF_RUNS:
        return False
    return record.level != "operator" or (not _may_be_named(record) and record.applies_to(strict=False))


def _may_be_named(record: Record) -> bool:
    return any(mark in record.key for mark in _NAMED)


def run_names(records: Iterable[Record], duties: Duties) -> list[tuple[str, str]]:
    """Name the runs by whose state it is decided whether an incident is to be closed: DAG and run ID."""
    return list(dict.fromkeys((r.dag_id, r.run_id) for r in records if _may_close(r, duties)))


def task_names(records: Iterable[Record], duties: Duties) -> list[tuple[str, str, str]]:
    """Name the tasks of which the same holds: DAG, run and task ID."""
    of_task = (r for r in records if r.is_of_task and _may_close(r, duties))
    return list(dict.fromkeys((r.dag_id, r.run_id, _task_id(r)) for r in of_task))


def dags_of(
    records: Iterable[Record], duties: Duties, runs: Mapping[tuple[str, str], Run]
) -> dict[tuple[str, bool], None]:
    """Name the DAGs that have one incident for all of their runs, and whether only a backfill's success closes it."""
    return dict.fromkeys(_dag_of(r, runs) for r in records if r.is_dags and _may_close(r, duties))


def _dag_of(record: Record, runs: Mapping[tuple[str, str], Run]) -> tuple[str, bool]:
    """Name a record's DAG, and say whether a backfill has failed: a scheduled run's success does not make it good."""
    run = runs.get((record.dag_id, record.run_id))
    return record.dag_id, run is not None and run.run_type == BACKFILL


def recovered(
    records: Iterable[Record],
    duties: Duties,
    *,
    runs: Mapping[tuple[str, str], Run],
    tasks: TaskStates,
    latest: Mapping[tuple[str, bool], Run],
    now: datetime,
) -> tuple[list[Recovered], list[Record]]:
    """Tell which runs and tasks are successful by now; and which records are of runs that were deleted.

    :param latest: The latest successful run of each DAG that `dags_of` names.
    """
    successes: dict[Recovered, None] = {}
    gone = []
    may_close = [record for record in records if _may_close(record, duties)]
    # What a DAG has open stands for all of its runs.
    alive = {record.of_dag for record in may_close if record.of_dag and (record.dag_id, record.run_id) in runs}
    for record in may_close:
        run = runs.get((record.dag_id, record.run_id))
        later = latest.get(_dag_of(record, runs)) if record.is_dags else None
        if run is None and record.of_dag not in alive:
            if record.state == "open" and record.level != "operator" and record.written_at <= now - CALLBACKS_FIRST:
                gone.append(record)
        elif run and _is_deliberate_step_of(record, run):
            continue
        elif run and _is_over(run, now):
            # A task of a failed run that was cleared may be skipped or removed now; what has failed was handled.
            states = _states_of(record, tasks) if record.is_of_task else set()
            is_tasks = bool(states) and not states & FAILED
            successes[_recovery(record, run, record.task if is_tasks else None)] = None
        elif later and _is_over(later, now) and later.ended_at and later.ended_at > record.written_at:
            successes[_recovery(record, later)] = None
        elif run and _has_succeeded(record, tasks) and record.written_at <= now - RECOVERIES_FIRST:
            successes[_recovery(record, run, record.task)] = None
    return list(successes), gone


def _may_close(record: Record, duties: Duties) -> bool:
    """Return whether anything is left to close for a record; a flush does what a recovery has left to do."""
    if not duties.closes or record.level in _NOT_OF_RUNS or record.closing is not None:
        return False
    return not record.is_settled(always=duties.always) and not (record.is_dags and record.already_closed)


def _is_deliberate_step_of(record: Record, run: Run) -> bool:
    return record.level == "operator" and (_may_be_named(record) or record.clear_count >= run.clear_count)


def _is_over(run: Run, now: datetime) -> bool:
    return run.state == "success" and run.ended_at is not None and run.ended_at <= now - RECOVERIES_FIRST


def _has_succeeded(record: Record, tasks: TaskStates) -> bool:
    """Return whether the task is successful that a record is of; at scope `task` with all its map indexes."""
    states = _states_of(record, tasks) if record.is_of_task else set()
    return "success" in states and WELL.issuperset(states)


def _states_of(record: Record, tasks: TaskStates) -> set[str | None]:
    """Return the states that the task of a record is in; at scope `task`, those of all its map indexes."""
    states = tasks.get((record.dag_id, record.run_id), {}).get(_task_id(record), {})
    if record.scope == "task_instance":
        index = _map_index(record)
        return {states[index]} if index in states else set()
    return set(states.values())


def _task_id(record: Record) -> str:
    return (record.task or "").partition("[")[0]


def _map_index(record: Record) -> int:
    index = (record.task or "").partition("[")[2].removesuffix("]")
    return int(index) if index.isdecimal() else -1


def _recovery(record: Record, run: Run, task: str | None = None) -> Recovered:
    channel = "alert" if record.endpoint == "alert" else "incident"
    deployment = deployment_of(record.key) if _OF_DAG in record.key else None
    return Recovered(run, record.conn_id, channel, record.scope or "run", task, deployment)


class Files(NamedTuple):
    """What is to be done about DAG files; `first_seen` is since when each is known to be broken."""

    first_seen: Mapping[File, datetime]
    broken: Sequence[File] = ()
    mended: Sequence[Record] = ()


def files(
    broken: Iterable[File],
    first_seen: Mapping[File, datetime],
    records: Sequence[Record],
    duties: Duties,
    now: datetime,
) -> Files:
    """Tell which files have been broken for too long, and of which the incident is to be closed."""
    if duties.import_after is None:  # what another watcher knows of those that are broken still, it goes on to know
        return Files({file: first_seen[file] for file in broken if file in first_seen})
    mine = [record for record in records if record.level == "import"]
    # What has an incident goes on with its moment: another watcher, or nobody, may have written down the same one.
    adopted = {r.dag_id: _moment_of(r.run_id) for r in mine if r.closing is None and not r.is_settled(always=False)}
    seen = {file: adopted.get(str(file)) or first_seen.get(file) or now for file in broken}
    told = {(record.dag_id, record.run_id) for record in mine}
    late = [
        file
        for file, moment in seen.items()
        if now - moment >= duties.import_after and (str(file), moment_text(moment)) not in told
    ]
    current = {(str(file), moment_text(moment)) for file, moment in seen.items()}
    mended = [
        record
        for record in mine
        if (record.dag_id, record.run_id) not in current
        and record.closing is None
        and not record.is_settled(always=duties.always)
    ]
    return Files(seen, late, mended)


def moment_text(moment: datetime) -> str:
    """Write down since when a file is broken: part of its incident's key."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _moment_of(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def by_name(runs: Iterable[Run]) -> Mapping[tuple[str, str], Run]:
    """Index runs by DAG and run ID."""
    return {(run.dag_id, run.run_id): run for run in runs}
