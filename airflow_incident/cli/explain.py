"""`airflow-incident explain`: what became of a run's failure, what is sent for it, and which settings say so.

Airflow is imported only when it runs.
"""

from __future__ import annotations

import argparse
import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_incident.cli.terminal import (
    CommandError,
    add_command,
    add_common,
    answer,
    indented,
    quiet,
    say,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_incident.airflow_bridge.config import AirflowConfig, ConnectionConfig
    from airflow_incident.cli.dag_file import FirstCallback
    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.routes import Routed
    from airflow_incident.core.settings import TagOptions
    from airflow_incident.delivery.record import Record

_COLUMNS = 10
"""Columns of the words that a line begins with."""
_LATEST = 3
"""Runs that are named to whoever asks for one that does not exist."""


class _Run(NamedTuple):
    """What Airflow's database says of a run."""

    clear_count: int
    run_type: str
    started_at: datetime | None
    state: str


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    parser = add_command(
        commands,
        "explain",
        _explain,
        summary="say what becomes of a run's failure, and why",
        description="Say what has become of a run's failure, what is sent for one, and which settings say so and come "
        "from where. Runs where Airflow's database and the DAG's file are, and asks incident.io nothing.",
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
    parser.add_argument("--all", action="store_true", help="show settings that have their default value, too")
    add_common(parser)
    parser.set_defaults(conn_id=None)  # a callback, a rule or a tag of the DAG may name another than the default


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a whole number, 0 or more")
    return int(text)


def _explain(args: argparse.Namespace) -> int:
    with quiet("Reading the DAG's file and the journal"):
        told = _explanation(args)
    if args.json:
        answer(told)
    else:
        say("\n".join(_lines(told, every=args.all)))
    return 0


def _explanation(args: argparse.Namespace) -> dict[str, Any]:
    """Explain a failure as far as it can be known, by the names of docs/reference/json.md."""
    from airflow_incident.airflow_bridge.config import examine_config, read_airflow_config
    from airflow_incident.cli.auto_callbacks import explain_policy
    from airflow_incident.cli.dag_file import read_first_callback
    from airflow_incident.cli.records import record_json
    from airflow_incident.core.key import ALERT_MARK, dag_key, earlier_keys, idempotency_key, scope_of, started_key
    from airflow_incident.delivery.record import record_name

    run = _run(args.dag_id, args.run_id)
    failure, notes = _failure(args, run)
    if run is None and not _records(failure, set(), []):
        raise CommandError(_unknown(args.dag_id, args.run_id))
    airflow_config = read_airflow_config()
    tags, told = explain_policy(args.dag_id, airflow_config)
    routed = _routed(failure, airflow_config)
    caller = _caller(read_first_callback(args.dag_id, args.task), tags)
    options = dict(caller.arguments)
    texts = {name: options.pop(name, None) for name in ("name", "summary")}
    conn_id = options.pop("conn_id", "")
    config = examine_config(args.conn_id or conn_id, airflow_config, routed, **options)
    scope = scope_of(failure, config.settings.scope)
    named: dict[str, Any] = {"deployment": config.deployment, "scope": scope}
    key = idempotency_key(failure, **named)
    keys = {key, *earlier_keys(failure, **named), dag_key(config.deployment, args.dag_id, config.conn_id)}
    records = _records(failure, keys | {f"{ALERT_MARK}{one}" for one in keys}, notes)
    notes += [*told, *filter(None, [caller.note]), *_remarks(config, failure, scope)]
    if later := started_key(failure, **named):
        notes.append(
            f"If the incident of this key was over before the run began, it was made again, and its key is {later}."
        )
    return {
        "dag_id": failure.dag_id,
        "run_id": failure.run_id,
        "task_id": failure.task_id,
        "run_state": run and run.state,
        "clear_count": failure.clear_count,
        "answer": _answer(records, run),
        "sends": _sends(config, caller),
        "key": key,
        "record": record_name(args.dag_id, ALERT_MARK + key if config.settings.channel == "alert" else key),
        "scope": scope,
        "settings": _texts(config, texts, caller) | dict(settings_told(config, caller.origins)),
        "records": list(map(record_json, records)),
        "notes": notes,
    }


def _failure(args: argparse.Namespace, run: _Run | None) -> tuple[Failure, list[str]]:
    """Make the failure of what is given, and of what Airflow's database says of the run; and say what differs."""
    from airflow_incident.core.failure import Failure

    notes = [] if run else ["Airflow's database has no such run any more."]
    if run and args.clear not in {None, run.clear_count}:
        notes.append(f"Airflow's database says that the run was cleared {run.clear_count} times.")
    known = run.clear_count if run else 0
    failure = Failure(
        dag_id=args.dag_id,
        run_id=args.run_id,
        task_id=args.task,
        level="task" if args.task else "dag",
        clear_count=known if args.clear is None else args.clear,
        run_type=run and run.run_type,
        started_at=run and run.started_at,
    )
    return failure, notes


def _run(dag_id: str, run_id: str) -> _Run | None:
    """Read what Airflow's database says of a run."""
    from airflow.models import DagRun

    columns = (DagRun.clear_number, DagRun.run_type, DagRun.start_date, DagRun.state)
    rows = _rows(*columns, where=(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    return next((_Run(row[0] or 0, _word(row[1]), row[2], _word(row[3])) for row in rows), None)


def _word(value: Any) -> str:
    return str(getattr(value, "value", value))


def _unknown(dag_id: str, run_id: str) -> str:
    """Say that there is no such run, and which there are."""
    from airflow.models import DagRun
    from airflow.models.dag import DagModel

    known = [row[0] for row in _rows(DagModel.dag_id)]
    if dag_id not in known:
        near = get_close_matches(dag_id, known, n=1)
        return f"Airflow's database has no DAG {dag_id!r}{f'; did you mean {near[0]!r}?' if near else ''}"
    latest = _rows(DagRun.run_id, where=(DagRun.dag_id == dag_id,), order=DagRun.id.desc(), limit=_LATEST)
    runs = ", ".join(row[0] for row in latest)
    return f"DAG {dag_id} has no run {run_id!r}{f'; its latest: {runs}' if runs else ', and no other'}"


def _rows(*columns: Any, where: Sequence[Any] = (), order: Any = None, limit: int | None = None) -> list[Any]:
    """Ask Airflow's database.

    :raises CommandError: if it cannot be asked.
    """
    from airflow.utils.session import create_session
    from sqlalchemy import select

    try:
        with create_session() as session:
            return list(session.execute(select(*columns).where(*where).order_by(order).limit(limit)))
    except Exception as error:  # noqa: BLE001 -- a database raises whatever its driver raises
        told = f"Airflow's database cannot be asked ({type(error).__name__})"
        raise CommandError(f"{told}. Run this where it is, migrated: see 'airflow db check'") from None


def _records(failure: Failure, keys: set[str], notes: list[str]) -> list[Record]:
    """Find what the journal holds of this failure, of the run's others, and of what the DAG has open."""
    from airflow_incident.delivery.record import dag_prefix, record_name
    from airflow_incident.delivery.run import list_records

    records, unreadable = list_records(dag_prefix(failure.dag_id))
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


class _Caller(NamedTuple):
    """What reports a failure, empty if nothing does; what it was given, and where each of that is written."""

    name: str
    arguments: Mapping[str, Any]
    origins: Mapping[str, str]
    note: str = ""


def _caller(callbacks: FirstCallback, tags: TagOptions | None) -> _Caller:
    """Say whether a callback of the DAG's file reports a failure, or zero touch, which puts its own there."""
    from airflow_incident.constants import TAG

    by_tags = {"severity": tags and tags.severity, "conn_id": tags and tags.conn_id}
    wanted = {name: value for name, value in by_tags.items() if value}
    if callbacks.place and (tags is None or callbacks.arguments != wanted):
        origins = dict.fromkeys(callbacks.arguments, callbacks.place)
        return _Caller(callbacks.place, callbacks.arguments, origins, callbacks.note)
    origins = {name: f"tag {TAG}{name.removesuffix('_id')} of the DAG" for name in wanted}
    name = "zero touch" if tags else "a callback in the DAG's file, if it has one" if callbacks.unknown else ""
    return _Caller(name, wanted, origins, callbacks.unknown)


def _answer(records: Sequence[Record], run: _Run | None) -> list[str]:
    """Say what has become of the failure."""
    from airflow_incident.cli.records import state_of
    from airflow_incident.delivery.outcome import record_line

    if not records:
        return [f"The run's state is {run.state if run else 'unknown'}, and the journal has no record of it."]
    after = {record.name: f", cleared {_times(record.clear_count)}" for record in records if record.clear_count}
    return [f"{state_of(record)}: {record_line(record)}{after.get(record.name, '')}" for record in records]


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def _sends(config: ConnectionConfig, caller: _Caller) -> str:
    """Say what a failure sends, and to where."""
    from airflow_incident.airflow_bridge.config import why_disabled

    if why := why_disabled(config.airflow_config, config.routed):
        return f"nothing: {why}"
    if not caller.name:
        return "nothing: neither the DAG nor its tasks have a callback of ours, and zero touch does not cover it"
    if config.unusable:
        then = "each failure is one line in the log" if config.is_absent else "failures are kept until it is fixed"
        return f"nothing, {then}: {config.unusable}. {config.unusable.advice}"
    thing = "an alert" if config.settings.channel == "alert" else "an incident"
    fields = {name: value for name, value in config.settings.incident_fields().items() if value}
    looks = ", ".join(f"{name} {_text(value)}" for name, value in fields.items())
    where = f"through {config.conn_id} ({config.account.base_url}), by {caller.name}"
    return config.redact(f"{thing}{f' with {looks}' if looks else ''}, {where}")


def _texts(config: ConnectionConfig, given: Mapping[str, str | None], caller: _Caller) -> dict[str, Mapping[str, str]]:
    """Tell the templates of title and summary, if there are any."""
    told: dict[str, Mapping[str, str]] = {}
    for name, value in config.templates(given).items():
        by_rule = config.routed.origin(name) if config.routed and name in config.routed.rules else ""
        if value is not None:
            told[name] = {"value": config.redact(value), "from": caller.origins.get(name, by_rule)}
    return told


def settings_told(config: ConnectionConfig, given: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Tell each option's value, and which place has set it.

    :param given: Where each argument comes from.
    """
    from airflow_incident.constants import CONFIG_SECTION
    from airflow_incident.core.settings import OPTIONS

    where = {"connection": f"connection {config.conn_id}", "config": f"[{CONFIG_SECTION}] in airflow.cfg"}
    for name, option in OPTIONS.items():
        value = getattr(config.settings, name)
        # Airflow answers with the declared default where airflow.cfg has none; the two cannot be told apart.
        place = config.origins.get(name, "")
        origin = where.get(place, "default")
        if place == "argument":
            origin = given.get(name, f"no API key in connection {config.conn_id}")
        elif config.routed and place == "route":
            origin = config.routed.origin(name)
        elif value == option.default:
            origin = "default"
        if name == "deployment" and value is None:
            origin = config.airflow_config.base_url_option if config.airflow_config.name else "default"
            value = config.deployment
        if option.secret:
            value = value and "***"
        yield name, {"value": config.redact(_text(value)), "from": origin}


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        value = ", ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | bool) else str(value or "")


def _remarks(config: ConnectionConfig, failure: Failure, scope: Scope) -> Iterator[str]:
    from airflow_incident.constants import BACKFILL, TASK_SCOPES

    if failure.run_type == BACKFILL and config.settings.scope == "run":
        yield "Backfill runs count as scope dag."
    if scope == "dag":
        yield "At scope dag an incident that the DAG has open takes the failure; else its runs share the next key."
    if scope in TASK_SCOPES and failure.task_id is None:
        yield f"At scope {scope} each task has a key of its own, with --task; this is the run's."
    if scope == "task_instance" and failure.task_id is not None:
        yield "A mapped task's key also ends in /map/ and its index."
    if not config.settings.journal:
        yield "The journal is turned off: [incident_io] journal is false."
    if config.for_alerts_alone and not config.unusable:
        yield "The connection has no API key: only channel alert can use it."
    if config.routed and config.routed.options.get("conn_id") == config.conn_id:
        yield f"The connection, {config.conn_id}, comes from {config.routed.origin('conn_id')}."
    if config.routed and config.routed.problems:
        yield f"{config.routed.warning}."
    yield from config.notes


def _lines(told: Mapping[str, Any], *, every: bool) -> Iterator[str]:
    """Say the answer first, then what leads to it."""
    from airflow_incident.delivery.outcome import clean

    for sentence in told["answer"]:
        yield from indented("", sentence)
    yield ""
    facts = {name: told[name] for name in ("sends", "key", "record")}
    facts |= {"run": told["run_state"] or "unknown", "cleared": _times(told["clear_count"])}
    for name, fact in facts.items():
        yield from indented(f"{name:<{_COLUMNS}}", clean(fact))
    yield ""
    shown = {name: each for name, each in told["settings"].items() if every or each["from"] != "default"}
    if shown:
        rows = [(name, clean(each["value"]) or "-", clean(each["from"])) for name, each in shown.items()]
        yield table(("SETTING", "VALUE", "FROM"), rows)
    if not every:
        yield f"Every {'other ' if shown else ''}setting has its default; --all shows it."
    yield ""
    for note in told["notes"]:
        yield from indented("", clean(note))
