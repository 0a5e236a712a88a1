"""A failure in Airflow's words: plain facts, read once from whatever context Airflow gave."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import quote, urlsplit

from airflow_incident.core.account import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

LISTED_TASKS = 20
"""Failed tasks that an incident names and links."""
Level = Literal["task", "dag", "deadline", "operator", "import"]


class Failure(NamedTuple):
    """What failed. Everything but `dag_id` and `run_id` may be unknown.

    `level` is where Airflow told it: a task's callback, the DAG's, a deadline alert, an operator, or a DAG file that
    cannot be imported. That one stands for the DAG, and the moment since when it is broken for the run; `file_dags` are
    the DAGs that it held.
    `map_index` is -1 for a task that is not mapped. `clear_count` is how often the run was cleared, `started_at` when
    it began: a run that was deleted and made again differs from the first one in that alone.
    `failed_tasks` are the failed task instances' labels, where Airflow tells them.
    `in_processor` says that the DAG processor told it, in a batch with others.
    `exception` is the text that `exception_detail` allows, `log_tail` the last lines of the task's log; neither is
    redacted yet. `raised_at` is where in the DAG's own code. `map_names` are the rendered map indexes of failed task
    instances, by label, `log_urls` their logs; `instances` is how many a mapped task has, by its id.
    `operator`, `task_doc`, `task_fields` and `host` are of the one task that failed: its class, what its author wrote
    about it, what it works on or waits for, where it ran. `time_limit` is what it, or its run, exceeded.
    `downstream` are the first tasks that do not run because of it, of `downstream_count`; `assets` are not updated, and
    `assets_url` is Airflow's page about what is scheduled on assets.
    `failures_before` is how many runs of the DAG failed one after the other before this one, of the last ten, and
    `failing_since` when the first of them did. `file` is the DAG's, `bundle` the DAG bundle with its version.
    """

    dag_id: str
    run_id: str
    level: Level = "dag"
    task_id: str | None = None
    map_index: int = -1
    clear_count: int = 0
    attempt: int | None = None
    attempts: int | None = None
    in_processor: bool = False
    reason: str | None = None
    run_type: str | None = None
    logical_date: datetime | None = None
    run_after: datetime | None = None
    started_at: datetime | None = None
    failed_at: datetime | None = None
    deadline_at: datetime | None = None
    exception_type: str | None = None
    exception: str | None = None
    raised_at: str | None = None
    failed_tasks: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    run_url: str | None = None
    log_url: str | None = None
    map_names: Mapping[str, str] = MappingProxyType({})
    log_urls: Mapping[str, str] = MappingProxyType({})
    log_tail: str | None = None
    downstream: tuple[str, ...] = ()
    downstream_count: int | None = None
    assets: tuple[str, ...] = ()
    assets_url: str | None = None
    owner_links: Mapping[str, str] = MappingProxyType({})
    description: str | None = None
    runbook: str | None = None
    last_success: datetime | None = None
    failures_before: int | None = None
    failing_since: datetime | None = None
    operator: str | None = None
    task_doc: str | None = None
    task_fields: Mapping[str, str] = MappingProxyType({})
    time_limit: timedelta | None = None
    host: str | None = None
    instances: Mapping[str, int] = MappingProxyType({})
    file: str | None = None
    bundle: str | None = None
    dag_version: str | None = None
    file_dags: tuple[str, ...] = ()

    @property
    def run_at(self) -> datetime | None:
        """The moment that the run stands for, by which runs of a DAG are in order."""
        return self.logical_date or self.run_after

    @property
    def retry_coming(self) -> bool:
        """Whether a lost worker's callback came although attempts are left.

        Only the DAG processor may be asked: in the task's own process the numbers say nothing, for a task can
        fail for good with attempts left (AirflowFailException). The scheduler too fails for good what is stuck in
        the queue; then the task is among the failed ones.
        https://github.com/apache/airflow/issues/65400
        """
        if self.level != "task" or not self.in_processor or self.task_label in self.failed_tasks:
            return False
        return self.attempt is not None and self.attempts is not None and self.attempt < self.attempts

    def of_task(self, label: str) -> Failure:
        """Return the same for a task of its run, by the label that `failed_tasks` has of it."""
        task_id, mapped, index = label.removesuffix("]").rpartition("[")
        if mapped and index.isdecimal() and label.endswith("]"):
            return self._replace(task_id=task_id, map_index=int(index))
        return self._replace(task_id=label, map_index=-1)

    @property
    def task_label(self) -> str | None:
        """The task with its map index, as Airflow's UI shows it."""
        if self.task_id is None:
            return None
        return f"{self.task_id}[{self.map_index}]" if self.map_index >= 0 else self.task_id


def with_pages(failure: Failure, *, base_url: str | None, airflow: int, local: bool) -> Failure:
    """Add the addresses of the run, of the task's log, and of the logs of the first failed tasks.

    :param base_url: Where the UI is, as configured; without it there are no addresses.
    :param airflow: Airflow's major version.
    :param local: Whether an address that only this machine knows is of use to the reader.
    """
    base = (base_url or "").rstrip("/")
    if not base or (is_loopback(urlsplit(base).hostname) and not local):
        return failure
    dag, run = _quoted(failure.dag_id), _quoted(failure.run_id)
    if airflow < 3:  # noqa: PLR2004 -- the UI was rewritten in 3.0
        page, log_of, assets = f"{base}/dags/{dag}/grid?dag_run_id={run}", _log_in_grid, f"{base}/datasets"
    else:
        page, log_of, assets = f"{base}/dags/{dag}/runs/{run}", _log_of_task, f"{base}/assets"
    log = log_of(page, failure) if failure.task_id else None
    first = failure.failed_tasks[:LISTED_TASKS]
    own = failure.task_label
    logs = {own: log} if own and log and (failure.level == "task" or own in first) else {}
    others = failure._replace(attempt=None)
    logs |= {label: log_of(page, others.of_task(label)) for label in first if label not in logs}
    return failure._replace(run_url=page, log_url=log, log_urls=logs, assets_url=assets)


def _log_of_task(page: str, failed: Failure) -> str:
    mapped = f"/mapped/{failed.map_index}" if failed.map_index >= 0 else ""
    return f"{page}/tasks/{_quoted(failed.task_id or '')}{mapped}" + (
        f"?try_number={failed.attempt}" if failed.attempt else ""
    )


def _log_in_grid(page: str, failed: Failure) -> str:
    mapped = f"&map_index={failed.map_index}" if failed.map_index >= 0 else ""
    return f"{page}&task_id={_quoted(failed.task_id or '')}{mapped}&tab=logs"


def _quoted(part: str) -> str:
    return quote(part, safe="", errors="replace")
