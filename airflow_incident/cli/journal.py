"""`airflow-incident journal`: what waits, what was refused, and what to do about it.

Airflow is imported only when it runs.
"""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC
from typing import TYPE_CHECKING

from airflow_incident.cli.terminal import CommandError, add_command, add_json, asks, quiet, record_json, say
from airflow_incident.delivery.record import STATES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_incident.delivery.outcome import FlushResult
    from airflow_incident.delivery.record import Record

UNREADABLE = "unreadable"
"""What stands for the state of a text that is no record of ours."""
SHORT = 8
"""Characters of a record's digest that stand for it in the list."""
WIDE = 140
"""Columns that a table needs to be read with pleasure."""


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
    flushing = add_action("flush", "deliver what waits; exit 1 if anything is left to do", _flush)
    retrying = add_action("retry", "deliver what was refused, once its cause is fixed", _retry)
    retrying.add_argument(
        "records", nargs="*", metavar="RECORD", help="ID, name or key; default: all that were refused"
    )
    for action in (listing, flushing, retrying):
        add_json(action)
    dropping = add_action("drop", "delete records; what waits in them is never delivered", _drop)
    dropping.add_argument("records", nargs="+", metavar="RECORD", help="ID, name or key")
    dropping.add_argument("--yes", action="store_true", help="do not ask")


def _list(args: argparse.Namespace) -> int:
    from airflow_incident.delivery.record import is_of_dag, replace_surrogates

    records, unreadable = _read()
    if args.dag is not None:
        records = [record for record in records if record.dag_id == replace_surrogates(args.dag)]
        unreadable = {name: why for name, why in unreadable.items() if is_of_dag(name, args.dag)}
    if args.state is not None:
        records = [record for record in records if record.state == args.state]
        unreadable = unreadable if args.state == UNREADABLE else {}
    records.sort(key=lambda record: (STATES.index(record.state), record.written_at))
    if args.json:
        say(json.dumps({"records": list(map(record_json, records)), "unreadable": unreadable}, indent=2))
    elif not records and not unreadable:
        narrowed = args.dag is not None or args.state is not None
        say("The journal has no such record." if narrowed else "The journal is empty: nothing waits.")
    else:
        _show(records, unreadable)
    return 0


def _flush(args: argparse.Namespace) -> int:
    from airflow_incident.delivery.run import flush

    with quiet():
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
    with quiet():
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

    records, unreadable = _read()
    found = [_find(wanted, records, unreadable) for wanted in args.records]
    chosen = {each if isinstance(each, str) else each.name: each for each in found}
    lost = sum(not isinstance(each, str) and not each.is_delivered for each in chosen.values())
    if not args.yes and not _confirmed(list(chosen), lost):
        say("Nothing was deleted.")
        return 1
    with quiet():
        drop_records(list(chosen))
    say(f"Deleted {_count(len(chosen))}.")
    return 0


def _confirmed(names: Sequence[str], lost: int) -> bool:
    """Ask, where somebody is there to answer."""
    if not sys.stdin.isatty():
        raise CommandError("nothing was deleted; without a terminal to ask on, it takes --yes")
    for name in names:
        say(name)
    loss = f" {lost} of them never became an incident, and then never will." if lost else ""
    return asks(f"Delete {_count(len(names))}?{loss}", default=False)


def _find(wanted: str, records: Sequence[Record], unreadable: Mapping[str, str]) -> Record | str:
    """Find a record by name, key or the beginning of its digest; what is not ours by its exact name only."""
    if wanted in unreadable:
        return wanted
    exact = [record for record in records if wanted in {record.name, record.key, record.sent_key}]
    short = [record for record in records if len(wanted) >= SHORT and _digest(record).startswith(wanted)]
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
    from airflow_incident.core.redaction import redact_secrets
    from airflow_incident.delivery.outcome import record_line, summary_line

    left = [settled for settled in flushed.settled if settled.error]
    if as_json:
        parts = {"delivered": flushed.opened, "waiting": flushed.pending, "refused": flushed.dead}
        told = {part: list(map(record_json, records)) for part, records in parts.items()}
        told["left_open"] = [record_json(settled.record) for settled in left]
        say(json.dumps(told | {"unreadable": dict(flushed.unreadable), "stopped": flushed.stopped}, indent=2))
    else:
        for record in (*flushed.opened, *flushed.pending, *flushed.dead):
            say(record_line(record))
        for settled in left:
            say(settled.log_event(redact_secrets).line)
        text = summary_line(flushed)
        say(f"{text[0].upper()}{text[1:]}.")
    return 1 if flushed.pending or flushed.dead or left else 0


def _show(records: Sequence[Record], unreadable: Mapping[str, str]) -> None:
    """Show a table on a terminal that is wide enough, else a line for each."""
    from airflow_incident.delivery.outcome import clean, record_line

    if not sys.stdout.isatty() or shutil.get_terminal_size().columns < WIDE:
        for record in records:
            say(f"{_digest(record)[:SHORT]} {record.state}: {record_line(record)}")
    elif records:
        _show_table(records)
    for name, why in unreadable.items():
        say(clean(f"{name} unreadable: {why}; it is left alone"))


def _show_table(records: Sequence[Record]) -> None:
    from rich.console import Console  # Airflow brings it
    from rich.table import Table  # Airflow brings it
    from rich.text import Text  # Airflow brings it

    rows = list(map(_row, records))
    table = Table(box=None, pad_edge=False)
    shown = [title for title in rows[0] if any(row[title] for row in rows)]
    for title in shown:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[title]) for title in shown))  # as Text, an id is never read as markup
    Console().print(table)


def _row(record: Record) -> dict[str, str]:
    from airflow_incident.delivery.outcome import clean, record_cell

    failed_at = (record.failed_at or record.written_at).astimezone(UTC)
    row = {
        "id": _digest(record)[:SHORT],
        "state": record.state,
        "DAG": record.dag_id,
        "run": record.run_id,
        "failed (UTC)": f"{failed_at:%Y-%m-%d %H:%M:%S}",
        "attempts": str(record.attempts or ""),
        "suppressed": str(record.suppressed or ""),
        "incident or error": record_cell(record),
    }
    return {title: clean(text) for title, text in row.items()}


def _digest(record: Record) -> str:
    return record.name.rpartition(".")[2]


def _count(number: int) -> str:
    return "1 record" if number == 1 else f"{number} records"
