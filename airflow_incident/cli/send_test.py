"""`airflow-incident send-test`: opens an incident of mode test, to see that it arrives, and closes it on request.

Airflow is imported only when it runs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from airflow_incident.cli.terminal import CommandError, add_command, add_common, answer, asks, quiet, remark, say

if TYPE_CHECKING:
    import argparse

    from airflow_incident.airflow_bridge.config import ConnectionConfig
    from airflow_incident.hooks import IncidentHook

_SUMMARY = "A test from Airflow, deployment {}: nothing has failed. It was sent by `airflow-incident send-test`."
_OFF = "[incident_io] enabled is false: no failure opens an incident here, only this test does"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    parser = add_command(
        commands,
        "send-test",
        _send_test,
        summary="open a test incident",
        description="Open an incident of mode test with the connection's settings, whose names must all be known. "
        "On a terminal it asks whether to close it again.",
    )
    add_common(parser)
    parser.add_argument("--close", action="store_true", help="close it again, without asking")


def _send_test(args: argparse.Namespace) -> int:
    with quiet("Opening a test incident"):
        from airflow_incident.hooks import IncidentHook  # imports Airflow

        hook = IncidentHook(args.conn_id)
        config = hook.config()
        told = _open(hook, config)
    if not config.airflow_config.enabled:
        remark("send-test", _OFF)
    if not args.json:
        say(f"{told['reference']} is open, a test: {told['permalink']}")
    is_asked = not args.json and not args.close and sys.stdin.isatty()
    if args.close or (is_asked and asks("Close it again?", default=True)):
        _close(hook, told, as_json=args.json)
    if args.json:
        answer(told)
    else:
        say("It is closed again." if told["closed"] else "It stays open until somebody closes it.")
    return 0


def _open(hook: IncidentHook, config: ConnectionConfig) -> dict[str, Any]:
    """Open an incident under a key of its own, that no failure can have."""
    from urllib.parse import quote
    from uuid import uuid4

    from airflow_incident.api.incident import incident_label
    from airflow_incident.delivery.outcome import clean

    incident = hook.create_incident(
        idempotency_key=f"airflow/{quote(config.deployment, safe='')[:100]}/test/{uuid4().hex}",
        name="Test from Airflow",
        summary=_SUMMARY.format(config.deployment),
        mode="test",
    )
    return {
        "id": incident.id,
        "reference": clean(incident_label(incident)),
        "permalink": clean(incident.permalink or ""),
        "closed": False,
        "error": None,
    }


def _close(hook: IncidentHook, told: dict[str, Any], *, as_json: bool) -> None:
    """Close the incident; where that fails, a script still learns which one is open."""
    try:
        with quiet("Closing it"):
            hook.resolve_incident(told["id"], always=True)
    except CommandError as error:
        if as_json:
            answer(told | {"error": str(error)})
        raise
    told["closed"] = True
