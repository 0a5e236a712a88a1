"""Zero touch, found by Airflow: the cluster policy that `[incident_io] auto_open` and `auto_resolve` turn on.

Every process of Airflow imports this, and a policy that raises at import ends each of its commands. Therefore it
imports nothing of ours before airflow.cfg asks for it.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow.policies import hookimpl

from airflow_incident import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_incident.policy.auto_callbacks import ZeroTouch

OFF = frozenset({"", "false", "f", "0", "no", "off"})
NOTIFICATIONS = "airflow_incident.notifications"

log = logging.getLogger(__name__)


@contextmanager
def _harmless() -> Iterator[None]:
    """Say in one line what kept our callbacks out: raising here would cost the DAG, or every DAG."""
    try:
        yield
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- as above
        log.error("incident.io: zero touch leaves DAGs as they are: %s", readable(error))  # noqa: TRY400 -- in one line


@hookimpl
def dag_policy(dag: Any) -> None:
    """Put our callbacks at the level of a DAG.

    https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/cluster-policies.html
    """
    with _harmless():
        _list_callbacks(dag)
        if (zero_touch := _zero_touch()) is not None:
            zero_touch.enter_dag(dag)


@hookimpl
def task_policy(task: Any) -> None:
    """Put our callbacks at the level of a task; after the installation's own policies, which Airflow asks first."""
    with _harmless():
        _list_callbacks(task)
        if (zero_touch := _zero_touch()) is not None:
            zero_touch.enter_task(task)


def _list_callbacks(owner: Any) -> None:
    """Make a list of a tuple that holds a callback of ours: Airflow would call the tuple itself, and fail.

    It does so with those of a DAG, and before Airflow 3 with those of a task.
    """
    for kind in ("on_failure_callback", "on_success_callback"):
        given = getattr(owner, kind, None)
        notifications = sys.modules.get(NOTIFICATIONS)  # what is not loaded is in no tuple either
        if isinstance(given, tuple) and notifications and any(map(notifications.notifier_class, given)):
            setattr(owner, kind, list(given))


@lru_cache(maxsize=1)
def _zero_touch() -> ZeroTouch | None:
    """Read airflow.cfg, once per process; None if zero touch is off, or broken."""
    with _harmless():
        from airflow.configuration import conf  # whoever loads a DAG has loaded it

        values = (conf.get("incident_io", name, fallback="") for name in ("auto_open", "auto_resolve"))
        if any(str(value).strip().lower() not in OFF for value in values):
            from airflow_incident.policy.auto_callbacks import read_zero_touch  # off, nothing of ours is imported

            return read_zero_touch()
    return None
