"""`airflow-incident explain`: which key a run's failure has, which settings it meets, what the journal says of it.

Airflow is imported only when it runs.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from airflow_incident.cli.terminal import add_common, indented, quiet, record_json, say, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_incident.cli.explanation import Explanation

_HEAD = 10
"""Columns of the words that the first lines begin with."""
_STATE = 10
"""Columns of a record's state."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    told = (
        "Say which idempotency key a failure of a run has, which settings it meets and where they come from, and "
        "what the journal says of it. Runs where Airflow's database is, and asks incident.io nothing."
    )
    parser = commands.add_parser(
        "explain", help="say what becomes of a run's failure, and why", description=told, allow_abbrev=False
    )
    parser.add_argument("dag_id", metavar="DAG_ID")
    parser.add_argument("run_id", metavar="RUN_ID")
    parser.add_argument("--task", metavar="TASK_ID", help="the task that failed; default: the run as a whole")
    parser.add_argument(
        "--clear",
        metavar="N",
        type=_count,
        help="how often the run had been cleared; default: as Airflow's database says",
    )
    add_common(parser)
    parser.set_defaults(conn_id=None)  # a tag of the DAG may name another than the default
    start(parser, "explain", _explain)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a whole number, 0 or more")
    return int(text)


def _explain(args: argparse.Namespace) -> int:
    with quiet():
        from airflow_incident.cli.explanation import explain  # imports Airflow

        found = explain(args.dag_id, args.run_id, conn_id=args.conn_id, task_id=args.task, clear_count=args.clear)
    if args.json:
        told = found._asdict()
        told["settings"] = {name: {"value": value, "from": origin} for name, value, origin in found.settings}
        say(json.dumps(told | {"records": list(map(record_json, found.records))}, indent=2))
    else:
        say("\n".join(_lines(found)))
    return 0


def _lines(found: Explanation) -> Iterator[str]:
    """Say it in aligned columns."""
    from airflow_incident.delivery.outcome import clean, record_line

    yield from indented(f"{'key':<{_HEAD}}", found.key)
    yield from indented(f"{'record':<{_HEAD}}", found.record)
    times = {0: "never", 1: "once"}.get(found.clear_count, f"{found.clear_count} times")
    yield from indented(f"{'cleared':<{_HEAD}}", times)
    yield ""
    wide = max(len(setting.name) for setting in found.settings) + 2
    for name, value, origin in found.settings:
        yield from indented(f"{name:<{wide}}", f"{clean(value) or '-'}  ({origin})")
    yield ""
    if not found.records:
        yield "The journal has no record of it."
    for record in found.records:
        line = f"clear count {record.clear_count}: {record_line(record)} (key {clean(record.sent_key)})"
        yield from indented(f"{record.state:<{_STATE}}", line)
    yield ""
    for note in found.notes:
        yield from indented("", clean(note))
