"""`airflow-incident explain`: which key a run's failure has, which settings it meets, what the journal says of it.

Airflow is imported only when it runs.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, NamedTuple

from airflow_incident.cli.terminal import add_command, add_common, indented, quiet, record_json, say
from airflow_incident.constants import CONFIG_SECTION, TASK_SCOPES
from airflow_incident.core.failure import Failure
from airflow_incident.core.key import ALERT_MARK, dag_key, earlier_keys, idempotency_key, scope_of, started_key
from airflow_incident.core.settings import OPTIONS, TAG
from airflow_incident.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_incident.airflow_bridge.config import AirflowConfig, ConnectionConfig
    from airflow_incident.constants import Scope
    from airflow_incident.core.routes import Routed
    from airflow_incident.delivery.record import Record

_COLUMNS = 10
"""Columns of the words that a line begins with: what is told, or a record's state."""


class Explanation(NamedTuple):
    """What becomes of a failure, and what has; `notes` are what the reader should know as well.

    `settings` are each option's `value` as a failure of this connection would meet it, and what it comes `from`.
    """

    key: str
    record: str
    scope: Scope
    clear_count: int
    settings: Mapping[str, Mapping[str, str]]
    records: Sequence[Record]
    notes: Sequence[str]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    parser = add_command(
        commands,
        "explain",
        _explain,
        summary="say what becomes of a run's failure, and why",
        description="Say which idempotency key a failure of a run has, which settings it meets and where they come "
        "from, and what the journal says of it. Runs where Airflow's database is, and asks incident.io nothing.",
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


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a whole number, 0 or more")
    return int(text)


def _explain(args: argparse.Namespace) -> int:
    with quiet():
        found = _explanation(args)
    if args.json:
        say(json.dumps(found._asdict() | {"records": list(map(record_json, found.records))}, indent=2))
    else:
        say("\n".join(_lines(found)))
    return 0


def _explanation(args: argparse.Namespace) -> Explanation:
    """Explain a failure as far as it can be known without its DAG file."""
    from airflow_incident.airflow_bridge.config import examine_config, read_airflow_config
    from airflow_incident.cli.auto_callbacks import explain_policy
    from airflow_incident.delivery.record import record_name

    airflow_config = read_airflow_config()
    wishes, notes = explain_policy(args.dag_id, airflow_config)
    failure = _failure(args, notes)
    routed = _routed(failure, airflow_config)
    config = examine_config(args.conn_id or wishes.conn_id or "", airflow_config, routed, severity=wishes.severity)
    scope = scope_of(failure, config.settings.scope)
    key = idempotency_key(failure, deployment=config.deployment, scope=scope)
    earlier = earlier_keys(failure, deployment=config.deployment, scope=scope)
    keys = {key, *earlier, dag_key(config.deployment, args.dag_id)}
    records = _records(failure, keys | {f"{ALERT_MARK}{one}" for one in keys}, notes)
    notes += _remarks(config, failure, scope)
    if later := started_key(failure, deployment=config.deployment, scope=scope):
        notes.append(
            f"If the incident of this key was over before the run began, it was made again, and its key is {later}."
        )
    return Explanation(
        key, record_name(args.dag_id, key), scope, failure.clear_count, dict(settings_told(config)), records, notes
    )


def _failure(args: argparse.Namespace, notes: list[str]) -> Failure:
    """Make the failure of what is given, and of what Airflow's database says of the run."""
    clear_count: int | None = args.clear
    run_type = started_at = None
    try:
        found = _run(args.dag_id, args.run_id)
    except Exception as error:  # noqa: BLE001 -- a database raises whatever its driver raises
        notes.append(f"Airflow's database cannot be asked about the run ({type(error).__name__}).")
    else:
        if found is None:
            notes.append("Airflow's database has no such run.")
        else:
            known, run_type, started_at = found
            clear_count = known if clear_count is None else clear_count
            if clear_count != known:
                notes.append(f"Airflow's database says that the run was cleared {known} times.")
    return Failure(
        dag_id=args.dag_id,
        run_id=args.run_id,
        task_id=args.task,
        level="task" if args.task else "dag",
        clear_count=clear_count or 0,
        run_type=run_type,
        started_at=started_at,
    )


def _run(dag_id: str, run_id: str) -> tuple[int, str, datetime | None] | None:
    """Read how often a run was cleared, its type, and when it began."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    columns = select(DagRun.clear_number, DagRun.run_type, DagRun.start_date)
    with create_session() as session:
        row = session.execute(columns.where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).first()
    return None if row is None else (row[0] or 0, str(getattr(row[1], "value", row[1])), row[2])


def _records(failure: Failure, keys: set[str], notes: list[str]) -> list[Record]:
    """Find what the journal holds of this failure, of the run's others, and of what the DAG has open."""
    from airflow_incident.delivery.record import dag_prefix, record_name
    from airflow_incident.delivery.run import list_records

    try:
        records, unreadable = list_records(dag_prefix(failure.dag_id))
    except JournalError as error:
        notes.append(f"The journal cannot be read: {str(error).partition(chr(10))[0]}.")
        return []
    names = {record_name(failure.dag_id, key) for key in keys}
    notes += [f"{name} holds something that is not ours: {why}." for name, why in unreadable.items() if name in names]
    found = [record for record in records if record.key in keys or record.is_of(failure.dag_id, failure.run_id)]
    return sorted(found, key=lambda record: (record.clear_count, record.written_at))


def _routed(failure: Failure, airflow_config: AirflowConfig) -> Routed | None:
    """Say what the rules set, by what Airflow's database knows of the DAG; what it does not, the policy's notes say."""
    if not (given := airflow_config.config.get("routes_file")):
        return None
    from airflow_incident.airflow_bridge.routes import read_routes
    from airflow_incident.cli.auto_callbacks import dag_of_database

    tags, owners = dag_of_database(failure.dag_id, [])
    return read_routes(given).apply(failure._replace(tags=tuple(tags), owners=tuple(owners)))


def settings_told(config: ConnectionConfig) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Tell each option's value, and which place has set it."""
    arguments = {"severity": f"tag {TAG}severity of the DAG", "channel": f"no API key in connection {config.conn_id}"}
    where = {"connection": f"connection {config.conn_id}", "config": f"[{CONFIG_SECTION}] in airflow.cfg"}
    for name, option in OPTIONS.items():
        value = getattr(config.settings, name)
        # Airflow answers with the declared default where airflow.cfg has none; the two cannot be told apart.
        place = config.origins.get(name, "")
        origin = arguments[name] if place == "argument" else where.get(place, "default")
        if config.routed and place == "route":
            origin = config.routed.origin(name)
        elif value == option.default:
            origin = "default"
        if name == "deployment" and value is None:
            origin = config.airflow_config.base_url_option if config.airflow_config.name else "default"
            value = config.deployment
        if option.secret:
            value = value and "***"
        if isinstance(value, tuple):
            value = ", ".join(value)
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | bool) else str(value or "")
        yield name, {"value": config.redact(text), "from": origin}


def _remarks(config: ConnectionConfig, failure: Failure, scope: Scope) -> Iterator[str]:
    from airflow_incident.airflow_bridge.config import why_disabled

    if failure.run_type == "backfill" and config.settings.scope == "run":
        yield "Backfill runs count as scope dag."
    if scope == "dag":
        yield "At scope dag an incident that the DAG has open takes the failure; else its runs share the next key."
    if scope in TASK_SCOPES and failure.task_id is None:
        yield f"At scope {scope} each task has a key of its own, with --task; this is the run's."
    if scope == "task_instance" and failure.task_id is not None:
        yield "A mapped task's key also ends in /map/ and its index."
    if not config.settings.journal:
        yield "The journal is turned off: [incident_io] journal is false."
    if config.unusable:
        then = "each failure is one line in the log" if config.is_absent else "failures are kept until it is fixed"
        yield f"No incident can be opened, {then}: {config.unusable}. {config.unusable.advice}"
    elif config.for_alerts_alone:
        yield "The connection has no API key: only channel alert can use it."
    if why := why_disabled(config.airflow_config, config.routed):
        yield f"Incidents are turned off: {why}."
    yield from _routed_remarks(config)
    yield from config.notes
    yield "An argument in the DAG file, which is unknown here, goes before each of these settings."


def _routed_remarks(config: ConnectionConfig) -> Iterator[str]:
    if config.routed and config.routed.options.get("conn_id") == config.conn_id:
        yield f"The connection, {config.conn_id}, comes from {config.routed.origin('conn_id')}."
    if config.routed and config.routed.problems:
        yield f"{config.routed.warning}."


def _lines(found: Explanation) -> Iterator[str]:
    """Say it in aligned columns."""
    from airflow_incident.delivery.outcome import clean, record_line

    yield from indented(f"{'key':<{_COLUMNS}}", found.key)
    yield from indented(f"{'record':<{_COLUMNS}}", found.record)
    times = {0: "never", 1: "once"}.get(found.clear_count, f"{found.clear_count} times")
    yield from indented(f"{'cleared':<{_COLUMNS}}", times)
    yield ""
    wide = max(map(len, found.settings)) + 2
    for name, setting in found.settings.items():
        yield from indented(f"{name:<{wide}}", f"{clean(setting['value']) or '-'}  ({setting['from']})")
    yield ""
    if not found.records:
        yield "The journal has no record of it."
    for record in found.records:
        line = f"clear count {record.clear_count}: {record_line(record)} (key {clean(record.sent_key)})"
        yield from indented(f"{record.state:<{_COLUMNS}}", line)
    yield ""
    for note in found.notes:
        yield from indented("", clean(note))
