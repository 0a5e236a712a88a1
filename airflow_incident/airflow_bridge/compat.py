"""Airflow's names that moved between 2.11 and 3.3, each taken from where this Airflow has it, once it is asked for.

Nothing of ours enters, and no decision by version: a name's newest home goes first.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag as DagBag
    from airflow.sdk import DAG as DAG
    from airflow.sdk import BaseHook as BaseHook
    from airflow.sdk import BaseOperator as BaseOperator
    from airflow.sdk import BaseOperatorLink as BaseOperatorLink
    from airflow.sdk import BaseSensorOperator as BaseSensorOperator
    from airflow.sdk import Connection as Connection
    from airflow.sdk import task as task
    from airflow.sdk._shared.secrets_masker import redact as redact
    from airflow.sdk.bases.notifier import BaseNotifier as BaseNotifier
    from airflow.sdk.configuration import conf as conf
    from airflow.sdk.exceptions import AirflowFailException as AirflowFailException
    from airflow.sdk.exceptions import AirflowNotFoundException as AirflowNotFoundException
    from airflow.sdk.exceptions import AirflowSensorTimeout as AirflowSensorTimeout
    from airflow.sdk.execution_time.xcom import XCom as XCom
    from airflow.sdk.plugins_manager import AirflowPlugin as AirflowPlugin

_HOMES = {
    "AirflowFailException": ("airflow.sdk.exceptions", "airflow.exceptions"),
    "AirflowNotFoundException": ("airflow.sdk.exceptions", "airflow.exceptions"),
    "AirflowPlugin": ("airflow.sdk.plugins_manager", "airflow.plugins_manager"),
    "AirflowSensorTimeout": ("airflow.sdk.exceptions", "airflow.exceptions"),
    "BaseHook": ("airflow.sdk", "airflow.hooks.base"),
    "BaseNotifier": ("airflow.sdk.bases.notifier", "airflow.notifications.basenotifier"),
    "BaseOperator": ("airflow.sdk", "airflow.models.baseoperator"),
    "BaseOperatorLink": ("airflow.sdk", "airflow.models.baseoperatorlink"),
    "BaseSensorOperator": ("airflow.sdk", "airflow.sensors.base"),
    "Connection": ("airflow.sdk", "airflow.models.connection"),
    "DAG": ("airflow.sdk", "airflow.models.dag"),
    "DagBag": ("airflow.dag_processing.dagbag", "airflow.models.dagbag"),
    "Stats": ("airflow.sdk.observability.stats", "airflow.observability.stats", "airflow.stats"),
    "XCom": ("airflow.sdk.execution_time.xcom", "airflow.models.xcom"),
    "conf": ("airflow.sdk.configuration", "airflow.configuration"),
    "redact": (
        "airflow.sdk.log",
        "airflow.sdk.execution_time.secrets_masker",
        "airflow.utils.log.secrets_masker",
    ),
    "task": ("airflow.sdk", "airflow.decorators"),
}

TASK_RUNNER = "airflow.sdk.execution_time.task_runner"
PROCESSOR = "airflow.dag_processing.processor"
SECRET_CACHES = ("airflow.sdk.execution_time.cache", "airflow.secrets.cache")
"""Where Airflow keeps the cache of `[secrets] use_cache` from 3.1 on, and where it did before."""
CONNECTION_LOGGERS = (
    "airflow.sdk.definitions.connection",
    "airflow.models.connection.Connection",
    "airflow.sdk._shared.secrets_masker.secrets_masker",
    "airflow._shared.secrets_masker.secrets_masker",
    "airflow.sdk.execution_time.secrets_masker",
)
"""Who warns while a connection is made into a URI."""
PROCESS_CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"
"""Where a process of Airflow 3 says whether it may ask the database; one that says nothing is none of Airflow's own."""


def supervisor() -> Any:
    """Return Airflow's channel to the supervisor of this process, None where there is none."""
    return getattr(sys.modules.get(TASK_RUNNER), "SUPERVISOR_COMMS", None)


def question(kind: str, **fields: Any) -> Any:
    """Make a question to the supervisor, like `GetVariable`; Airflow 3 alone has one to ask."""
    return getattr(import_module("airflow.sdk.execution_time.comms"), kind)(**fields)


def run_before(run: Any, state: str | None = None) -> Any:
    """Ask Airflow for the run of a DAG before another one, by logical date; None if there is none.

    :param state: Only one that is in this state.
    """
    channel = supervisor()
    if channel is None:
        return run.get_previous_dagrun(run, state)
    asked = question("GetPreviousDagRun", dag_id=run.dag_id, logical_date=run.logical_date, state=state)
    return channel.send(asked).dag_run


def trigger_error(exception: Any) -> str:
    """Return the traceback of the trigger that a deferred task failed with: its exception says only that one failed.

    https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/deferring.html
    """
    step = getattr(exception, "__traceback__", None)
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None or step.tb_frame.f_code.co_name != "resume_execution":
        return ""
    lines = step.tb_frame.f_locals.get("traceback")
    return "".join(map(str, lines)) if isinstance(lines, list) else ""


_ASKED_ALREADY = frozenset({"ExecutionAPISecretsBackend", "SupervisorCommsSecretsBackend", "MetastoreBackend"})
"""Airflow's own secrets backends, which lead to its API server or its database."""


def secrets_backends() -> list[Any]:
    """Return the secrets backends that the installation has set, and the environment's; of Airflow 2 its database, too.

    Airflow 3's API server says whether it could look; Airflow 2 takes a database that fails for one that has nothing.
    """
    try:
        loaded = import_module("airflow.sdk.execution_time.supervisor").ensure_secrets_backend_loaded
    except ImportError:
        return list(import_module("airflow.configuration").ensure_secrets_loaded())
    return [backend for backend in loaded() if type(backend).__name__ not in _ASKED_ALREADY]


def is_in_processor() -> bool:
    """Return whether this process parses DAG files and calls the callbacks of DAGs."""
    return PROCESSOR in sys.modules


def is_triggerers(channel: Any) -> bool:
    """Return whether a channel is the triggerer's, which before Airflow 3.2 is for its event loop alone."""
    return hasattr(channel, "_async_writer")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"{__name__} has no {name}")
    found = globals()[name] = _found(name)  # what an Airflow has not is dear to look for
    return found


def _found(name: str) -> Any:
    """Take it from its newest home that is there; where it is nowhere, the oldest says what is missing."""
    *newer, oldest = _HOMES[name]
    for home in newer:
        with suppress(ImportError, AttributeError):
            return getattr(import_module(home), name)
    return getattr(import_module(oldest), name)


# Airflow's teams, where it has them (`[core] multi_team`): what belongs to one is found by its name only. For processes
# that have the database; Airflow tells tasks which team they are of.
# https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/multi-team.html


def has_teams(model: Any) -> bool:
    """Return whether Variables, or connections, may be a team's."""
    return hasattr(model, "get_team_name") and _found("conf").getboolean("core", "multi_team", fallback=False)


def team_of(model: Any, name: str) -> dict[str, str]:
    """Return the argument with which a thing is read, written and deleted, if it is a team's.

    Names are unique, whoever has them.
    """
    team = model.get_team_name(name)
    return {"team_name": team} if team else {}


def connection_of_a_team(conn_id: str) -> Any | None:
    """Return a connection that is a team's; None if no team has it. Not for a task, which is of one team itself."""
    from airflow.models import Connection

    team = team_of(Connection, conn_id) if has_teams(Connection) else None  # noqa: AIR311 -- there is no supervisor
    return Connection.get_connection_from_secrets(conn_id, **team) if team else None  # noqa: AIR311 -- as above
