"""The idempotency key: one failure, one key, the same from every process, machine and release."""

from __future__ import annotations

from datetime import UTC
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from airflow_incident.constants import BACKFILL, DEFAULT_CONN_ID, TASK_SCOPES
from airflow_incident.errors import ContextError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Failure

MAX_LENGTH = 200
"""incident.io documents no maximum; this fits every column that such a key is likely to meet."""
LOOK_BACK = 20
"""Earlier attempts of a run whose incidents are looked for."""

ALERT_MARK = "alert "
"""Stands before an alert's key in the journal: a failure may become an incident as well."""


def idempotency_key(
    failure: Failure, *, deployment: str, scope: Scope = "run", name: str | None = None, began: str | None = None
) -> str:
    """Build the key of a failure from stable facts only: never an attempt's number, never a clock.

    :param scope: `run` is one incident per run, `task` one per task with all its map indexes, `task_instance` one
        per map index. Where no task is known, the run's key stands in; so it does at scope `dag`, as the name of the
        failure in the journal: what is sent is `open_key`.
    :param name: Separates deliberate incidents of one run from its failure.
    :param began: Separates a run that was made again, see `started_key`.
    :raises ContextError: if the DAG id or the run id is empty.
    """
    missing = [what for what in ("dag_id", "run_id") if not getattr(failure, what)]
    if missing:
        raise ContextError(f"Airflow's context names no {' and no '.join(missing)}")
    if failure.level == "import":
        return _join(
            "airflow", deployment, "import", failure.bundle or "", failure.file or failure.dag_id, failure.run_id
        )
    parts = ["airflow", deployment, "dag", failure.dag_id, "run", failure.run_id]
    if failure.clear_count > 0:
        parts += ["clear", str(failure.clear_count)]
    if failure.task_id is not None and scope in TASK_SCOPES:
        parts += ["task", failure.task_id]
        if scope == "task_instance" and failure.map_index >= 0:
            parts += ["map", str(failure.map_index)]
    if name:
        parts += ["key", name]
    if began:
        parts += ["started", began]
    return _join(*parts)


def started_key(failure: Failure, *, deployment: str, scope: Scope = "run", name: str | None = None) -> str | None:
    """Build the key of a run that was deleted and made again: its first key has an incident that is over.

    None where nobody knows when the run began. Parameters and errors are those of `idempotency_key`.
    """
    if failure.started_at is None:
        return None
    began = failure.started_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return idempotency_key(failure, deployment=deployment, scope=scope, name=name, began=began)


def scope_of(failure: Failure, scope: Scope) -> Scope:
    """Tell what one incident stands for: backfill runs are many, so they count as one DAG, and a file has no runs."""
    if failure.level == "import":
        return "run"
    return "dag" if failure.run_type == BACKFILL and scope == "run" else scope


def earlier_keys(failure: Failure, *, deployment: str, scope: Scope, name: str | None = None) -> list[str]:
    """Build the keys that the latest earlier attempts of a run have used, the first attempt's first.

    :raises ContextError: if the DAG id or the run id is empty.
    """
    counts = range(max(0, failure.clear_count - LOOK_BACK), failure.clear_count)
    attempts = (failure._replace(clear_count=count) for count in counts)
    return [idempotency_key(attempt, deployment=deployment, scope=scope, name=name) for attempt in attempts]


def deployment_of(key: str) -> str:
    """Return the name of the deployment that a key is of."""
    _, _, rest = key.removeprefix(ALERT_MARK).partition("/")
    return unquote(rest.partition("/")[0], errors="surrogatepass")


def with_deployment(key: str, deployment: str) -> str:
    """Return a failure's key as another name of its deployment makes it; one that was cut stays as it is."""
    if "/sha256/" in key:
        return key
    start, _, *rest = (unquote(part, errors="surrogatepass") for part in key.split("/"))
    return _join(start, deployment, *rest)


def own_keys(success: Failure, *, deployment: str, scope: Scope, name: str | None = None) -> list[str]:
    """Build the keys that this attempt of a run has used if it failed: also those of the tasks that are known to have.

    :raises ContextError: if the DAG id or the run id is empty.
    """
    told = [success]
    if scope in TASK_SCOPES and success.task_id is None:
        told += map(success.of_task, success.failed_tasks)
    keys = (idempotency_key(failure, deployment=deployment, scope=scope, name=name) for failure in told)
    return list(dict.fromkeys(keys))


def dag_key(deployment: str, dag_id: str, conn_id: str = DEFAULT_CONN_ID) -> str:
    """Name what a DAG has open through a connection, for the journal; no incident is ever asked for with it."""
    others = () if conn_id == DEFAULT_CONN_ID else ("connection", conn_id)
    return _join("airflow", deployment, "dag", dag_id, *others)


def open_key(of_dag: str, *, after: str | None) -> str:
    """Build the key of the next incident of a DAG, at scope `dag`: runs that fail together make the same one.

    :param of_dag: The DAG's `dag_key`.
    :param after: ID of the incident that the DAG had before; None where the journal knows of none.
    """
    return _join("first", under=[of_dag]) if after is None else _join("after", after, under=[of_dag])


def storm_key(deployment: str, began: str, like: str) -> str:
    """Build the key of the incident that groups a storm; the minute it began is the same in racing processes.

    :param like: Which failures it can group: racing processes must not group one under the other's that it cannot be.
    """
    return _join("airflow", deployment, "storm", began, like)


def _join(*parts: str, under: Sequence[str] = ()) -> str:
    """Join parts to a key; a long one is cut and closed with the digest of the whole, so that two never meet."""
    key = "/".join([*under, *(quote(part, safe="", errors="surrogatepass") for part in parts)])
    if len(key) <= MAX_LENGTH:
        return key
    end = f"/sha256/{sha256(key.encode()).hexdigest()}"
    return key[: MAX_LENGTH - len(end)] + end
