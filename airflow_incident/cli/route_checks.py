"""The file of rules, looked at: whether it can be read, its schema, and the connections that rules name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_incident.airflow_bridge.config import examine_config
from airflow_incident.airflow_bridge.routes import read_document, read_routes, read_text, twice_problems
from airflow_incident.cli.terminal import Finding
from airflow_incident.core.routes import Routed, Routes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_incident.airflow_bridge.config import AirflowConfig, ConnectionConfig

ADVICE = "Fix it, or remove it. Failures open incidents without it meanwhile."


def examine_file(given: str) -> Iterator[Finding]:
    """Look at a file of rules."""
    from airflow_incident.cli.route_schema import schema_problems  # builds models

    routes = read_routes(given)
    problems = routes.problems
    if not is_unread(routes):
        document = read_document(read_text(routes.file))
        problems = [*schema_problems(document.value, document.lines), *twice_problems(document)]
    for problem in problems:
        yield Finding("error", "routes", f"{routes.file}, {problem}", ADVICE)
    if not problems:
        count = len(routes.rules)
        yield Finding("ok", "routes", f"{count} rule{'s' * (count != 1)} in {routes.file}")


def examine_connections(routes: Routes, airflow_config: AirflowConfig) -> Iterator[Finding | ConnectionConfig]:
    """Read the connections that rules name: yield what keeps one from being used, else each rule's settings."""
    for rule in routes.rules:
        config = examine_config(
            "", airflow_config, Routed(rule.options, dict.fromkeys(rule.options, rule), routes.file)
        )
        if not config.unusable:
            yield config
        elif "conn_id" in rule.options:
            told = f"{rule} of {routes.file}: {config.unusable}"
            yield Finding("error", "routes", told, config.unusable.advice)


def is_unread(routes: Routes) -> bool:
    """Return whether nothing could be read of a file, whose one problem says why."""
    return any(problem.place != "route" for problem in routes.problems)
