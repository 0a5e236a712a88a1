"""`airflow-incident send-test`: opens an incident of mode test, to see that it arrives, and closes it on request.

Airflow is imported only when it runs.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from airflow_incident.cli.terminal import CommandError, add_common, asks, quiet, remark, say, start

if TYPE_CHECKING:
    import argparse

    from airflow_incident.api.models import Incident
    from airflow_incident.hooks import IncidentHook

_SUMMARY = "A test from Airflow, deployment {}: nothing has failed. It was sent by `airflow-incident send-test`."
_OFF = "[incident_io] enabled is false: no failure opens an incident here, only this test does"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    told = (
        "Open an incident of mode test with the connection's settings, whose names must all be known. "
        "On a terminal it asks whether to close it again."
    )
    parser = commands.add_parser("send-test", help="open a test incident", description=told, allow_abbrev=False)
    add_common(parser)
    parser.add_argument("--close", action="store_true", help="close it again, without asking")
    start(parser, "send-test", _send_test)


def _send_test(args: argparse.Namespace) -> int:
    with quiet():
        from airflow_incident.hooks import IncidentHook  # imports Airflow

        hook = IncidentHook(args.conn_id)
        config = hook.config()
        if not config.airflow_config.enabled:
            remark("send-test", _OFF)
        incident = _opened(hook, config.deployment)
    told = _told(incident)
    if not args.json:
        say(f"{told['reference']} is open, a test: {told['permalink']}")
    if args.close or _wants_it_closed(args):
        _close(hook, told, as_json=args.json)
    if args.json:
        say(json.dumps(told, indent=2))
    else:
        say("It is closed again." if told["closed"] else "It stays open until somebody closes it.")
    return 0


def _opened(hook: IncidentHook, deployment: str) -> Incident:
    """Open an incident under a key of its own, that no failure can have."""
    from urllib.parse import quote
    from uuid import uuid4

    return hook.create_incident(
        idempotency_key=f"airflow/{quote(deployment, safe='')[:100]}/test/{uuid4().hex}",
        name="Test from Airflow",
        summary=_SUMMARY.format(deployment),
        mode="test",
    )


def _close(hook: IncidentHook, told: dict[str, Any], *, as_json: bool) -> None:
    """Close the incident; where that fails, a script still learns which one is open."""
    try:
        with quiet():
            hook.resolve_incident(told["id"], always=True)
    except CommandError as error:
        if as_json:
            say(json.dumps(told | {"error": str(error)}, indent=2))
        raise
    told["closed"] = True


def _wants_it_closed(args: argparse.Namespace) -> bool:
    """Ask, where somebody is there to answer."""
    return not args.json and sys.stdin.isatty() and asks("Close it again?", default=True)


def _told(incident: Incident) -> dict[str, Any]:
    from airflow_incident.delivery.outcome import clean

    named = {"reference": incident.reference or incident.id, "permalink": incident.permalink or ""}
    return {"id": incident.id} | {name: clean(text) for name, text in named.items()} | {"closed": False}
