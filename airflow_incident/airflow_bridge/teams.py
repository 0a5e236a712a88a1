"""Airflow's teams, where it has them (`[core] multi_team`): what belongs to one is found by its name only.

For processes that have the database: commands, the API server. Tasks are told by Airflow which team they are of.
https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/multi-team.html
"""

from __future__ import annotations

from typing import Any

from airflow_incident.airflow_bridge.channel import supervisor


def in_team_of_variable(name: str) -> dict[str, str]:
    """Return the argument with which a Variable is read, written and deleted, if it is a team's."""
    from airflow.models import Variable

    return _in_team(Variable, name)  # noqa: AIR311 -- there is no supervisor to ask


def connection_of_a_team(conn_id: str) -> Any | None:
    """Return a connection that is a team's; None if no team has it, or if this process is not for all of them."""
    if supervisor() is not None:
        return None
    from airflow.models import Connection

    team = _in_team(Connection, conn_id)  # noqa: AIR311 -- as above
    return Connection.get_connection_from_secrets(conn_id, **team) if team else None  # noqa: AIR311 -- as above


def _in_team(model: Any, name: str) -> dict[str, str]:
    """Ask the database which team a thing is of; names are unique, whoever has them."""
    from airflow_incident.airflow_bridge.compat import conf

    if not hasattr(model, "get_team_name") or not conf.getboolean("core", "multi_team", fallback=False):
        return {}
    team = model.get_team_name(name)
    return {"team_name": team} if team else {}
