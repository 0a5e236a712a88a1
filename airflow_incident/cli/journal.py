"""`airflow-incident journal`: what waits, what was refused, and what to do about it.

Airflow is imported only when it runs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from airflow_incident.cli.terminal import (
    CommandError,
    UsageError,
    add_command,
    add_json,
    answer,
    asks,
    quiet,
    remark,
    say,
    table,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_incident.delivery.outcome import FlushResult
    from airflow_incident.delivery.record import Record

UNREADABLE = "unreadable"
"""What stands for the state of a text that is no record of ours."""
STATES = ("pending", "opened", "closed", "grouped", "dead")
"""The states of a record as a reader is told them, in the order of the list."""
OTHERS = "incident_io_"
"""Beginning of the names of what this package keeps in Variables beside records."""
STAYS = (
    "What stays: incidents at incident.io, connections, [incident_io] in airflow.cfg, and callbacks in DAG files, "
    "which write new records with their next failure."
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    told = "Look after the failures that are written down in Airflow's Variables. Runs where Airflow's database is."
    parser = commands.add_parser("journal", help="see and deliver the failures that wait", description=told)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    def add_action(name: str, told: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        return add_command(actions, name, run, summary=told, description=f"{told[0].upper()}{told[1:]}.")

    listing = add_action("list", "show what is written down", _list)
    listing.add_argument("--state", choices=(*STATES, UNREADABLE), help="only the records in this state")
    listing.add_argument("--dag", metavar="DAG_ID", help="only the records of this DAG")
    listing.add_argument("--check", action="store_true", help="ask incident.io how each incident stands now")
    flushing = add_action("flush", "deliver what waits; exit 1 if anything is left to do", _flush)
    retrying = add_action("retry", "deliver what was refused, once its cause is fixed", _retry)
    retrying.add_argument(
        "records", nargs="*", metavar="RECORD", help="ID, name or key; default: all that were refused"
    )
    dropping = add_action("drop", "delete records; what waits in them is never delivered", _drop)
    dropping.add_argument("records", nargs="*", metavar="RECORD", help="ID, name or key")
    told = "delete all that this package keeps in Airflow's Variables, before it is uninstalled"
    dropping.add_argument("--all", action="store_true", help=told)
    dropping.add_argument("--yes", action="store_true", help="do not ask")
    for action in (listing, flushing, retrying, dropping):
        add_json(action)


def _list(args: argparse.Namespace) -> int:
    from airflow_incident.cli.records import Statuses, ask_statuses, record_json, state_of
    from airflow_incident.delivery.record import is_of_dag, replace_surrogates

    records, unreadable = _read()
    if args.dag is not None:
        wanted = replace_surrogates(args.dag)
        records = [record for record in records if record.dag_id == wanted and record.level != "storm"]
        unreadable = {name: why for name, why in unreadable.items() if is_of_dag(name, args.dag)}
    if args.state is not None:
        records = [record for record in records if state_of(record) == args.state]
        unreadable = unreadable if args.state == UNREADABLE else {}
    records.sort(key=lambda record: (STATES.index(state_of(record)), record.written_at))
    statuses = Statuses({}, [])
    if args.check:
        with quiet("Asking incident.io"):
            statuses = ask_statuses(records)
    if args.json:
        told = [record_json(record, statuses.known) for record in records]
        answer({"records": told, "unreadable": unreadable, "problems": list(statuses.problems)})
    elif not records and not unreadable:
        narrowed = args.dag is not None or args.state is not None
        say("The journal has no such record." if narrowed else "The journal is empty: nothing waits.")
    else:
        _show(records, unreadable, statuses.known)
    for problem in statuses.problems:
        remark("journal", problem)
    return 0


def _flush(args: argparse.Namespace) -> int:
    from airflow_incident.delivery.run import flush

    with quiet("Delivering"):
        flushed = flush()
    return _tell(flushed, as_json=args.json)


def _retry(args: argparse.Namespace) -> int:
    records, unreadable = _read()
    chosen = [record for record in records if record.state == "dead"]
    if args.records:
        chosen = [_sendable(wanted, records, unreadable) for wanted in args.records]
    return _tell(_send_again(chosen), as_json=args.json)


def _sendable(wanted: str, records: Sequence[Record], unreadable: Mapping[str, str]) -> Record:
    record = _find(wanted, records, unreadable)
    if isinstance(record, str):
        raise CommandError(f"{record} cannot be sent: {unreadable[record]}")
    if record.is_delivered:
        raise CommandError(f"{record.name} has nothing to send: it is {record.state}")
    return record


def _send_again(records: Iterable[Record]) -> FlushResult:
    """Flush each of these records, refused or not; what a connection's outage would meet stays as it is."""
    from airflow_incident.delivery.outcome import FlushResult
    from airflow_incident.delivery.run import flush

    opened: list[Record] = []
    pending: list[Record] = []
    dead: list[Record] = []
    stopped: dict[str, str] = {}
    with quiet("Delivering"):
        for record in {record.name: record for record in records}.values():
            if record.conn_id in stopped:
                (dead if record.state == "dead" else pending).append(record)
                continue
            flushed = flush(prefix=record.name, also_dead=True)
            opened += flushed.opened
            pending += flushed.pending
            dead += flushed.dead
            if flushed.stopped:
                stopped[record.conn_id] = flushed.stopped
    return FlushResult(opened, pending, dead, stopped="; ".join(dict.fromkeys(stopped.values())) or None)


def _drop(args: argparse.Namespace) -> int:
    from airflow_incident.delivery.run import drop_records

    if args.all == bool(args.records):
        raise UsageError("name the records to delete, or give --all")
    with quiet():
        names, lost = _everything() if args.all else _named(args.records)
    if not args.yes and names and not _confirmed(names, lost, shown=not args.all):
        say("Nothing was deleted.")
        return 1
    with quiet("Deleting"):
        drop_records(names)
    if args.json:
        answer({"deleted": names})
        return 0
    say(f"Deleted {_count(len(names))}.")
    if args.all:
        say(STAYS)
    return 0


def _everything() -> tuple[list[str], int]:
    """Name all that is ours in Variables: records, what deployments remember, the watcher's; and count what waits.

    Of names that begin nearly so, only those that we have written: a DAG may have Variables of its own.
    """
    from airflow.models import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import or_, select

    from airflow_incident.airflow_bridge.variables import DESCRIPTION
    from airflow_incident.delivery.record import PREFIX

    model: Any = Variable  # noqa: AIR311 -- the row in the database
    of_records, ours = model.key.startswith(PREFIX, autoescape=True), model.description == DESCRIPTION
    others = model.key.startswith(OTHERS, autoescape=True)
    with create_session() as session:
        names = list(session.scalars(select(model.key).where(or_(of_records, others & ours)).order_by(model.key)))
    records, _ = _read()
    return names, sum(not record.is_delivered for record in records)


def _named(wanted: Sequence[str]) -> tuple[list[str], int]:
    """Find what is to be deleted, each once, and count what waits in it."""
    records, unreadable = _read()
    found = [_find(each, records, unreadable) for each in wanted]
    chosen = {each if isinstance(each, str) else each.name: each for each in found}
    return list(chosen), sum(not isinstance(each, str) and not each.is_delivered for each in chosen.values())


def _confirmed(names: Sequence[str], lost: int, *, shown: bool) -> bool:
    """Ask, where somebody is there to answer."""
    if not sys.stdin.isatty():
        raise CommandError("nothing was deleted; without a terminal to ask on, it takes --yes")
    for name in names if shown else ():
        say(name)
    loss = f" {lost} of them never became an incident, and then never will." if lost else ""
    return asks(f"Delete {_count(len(names))}?{loss}", default=False)


def _find(wanted: str, records: Sequence[Record], unreadable: Mapping[str, str]) -> Record | str:
    """Find a record by name, key or the beginning of its digest; what is not ours by its exact name only."""
    from airflow_incident.cli.records import SHORT, digest

    if wanted in unreadable:
        return wanted
    exact = [record for record in records if wanted in {record.name, record.key, record.sent_key}]
    short = [record for record in records if len(wanted) >= SHORT and digest(record).startswith(wanted)]
    matches = exact or short
    if not matches:
        raise CommandError(f"there is no record {wanted}; airflow-incident journal list shows all")
    if len(matches) > 1:
        raise CommandError(f"{wanted} stands for {len(matches)} records; give the name of one")
    return matches[0]


def _read() -> tuple[list[Record], dict[str, str]]:
    from airflow_incident.delivery.run import list_records

    with quiet():
        return list_records()


def _tell(flushed: FlushResult, *, as_json: bool) -> int:
    """Say what became of each record."""
    from airflow_incident.cli.records import record_json
    from airflow_incident.core.redaction import redact_secrets
    from airflow_incident.delivery.outcome import record_line, summary_line

    left = [settled for settled in flushed.settled if settled.error]
    if as_json:
        parts = {"delivered": flushed.opened, "waiting": flushed.pending, "refused": flushed.dead}
        told = {part: list(map(record_json, records)) for part, records in parts.items()}
        told["left_open"] = [record_json(settled.record) for settled in left]
        answer(told | {"unreadable": dict(flushed.unreadable), "stopped": flushed.stopped})
    else:
        for record in (*flushed.opened, *flushed.pending, *flushed.dead):
            say(record_line(record))
        for settled in left:
            say(settled.log_event(redact_secrets).line)
        text = summary_line(flushed)
        say(f"{text[0].upper()}{text[1:]}.")
    return 1 if flushed.pending or flushed.dead or left else 0


def _show(records: Sequence[Record], unreadable: Mapping[str, str], statuses: Mapping[str, str]) -> None:
    """Show a table of the columns that have something in them, and a line for each that is no record."""
    from airflow_incident.cli.records import record_row
    from airflow_incident.delivery.outcome import clean

    rows = [record_row(record, statuses) for record in records]
    if rows:
        shown = [title for title in rows[0] if any(row[title] for row in rows)]
        say(table(shown, [[row[title] for title in shown] for row in rows]))
    for name, why in unreadable.items():
        say(clean(f"{name} unreadable: {why}; it is left alone"))


def _count(number: int) -> str:
    return "1 record" if number == 1 else f"{number} records"
