"""How a command behaves on a terminal: what goes wrong is one line, and what Airflow says is not on standard output.

Airflow is imported only by what runs here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_incident.constants import DEFAULT_CONN_ID

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from airflow_incident.delivery.record import Record


WIDTH = 100
"""Columns of what is printed; an address that is longer stays whole, or nobody could click on it."""


class Finding(NamedTuple):
    """One thing that was looked at: how it is, and what to do about it."""

    level: Literal["ok", "warning", "error"]
    check: str
    text: str
    advice: str = ""


class CommandError(Exception):
    """What was asked for cannot be done; said in one line."""

    status = 1


class UsageError(CommandError):
    """What was asked for makes no sense."""

    status = 2


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    action: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    """Add a command, or an action of one, to a command line; whatever goes wrong when it runs is one line."""
    parser = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
    command = parser.prog.split()[1]  # of "airflow-incident journal list"
    parser.set_defaults(run=lambda args: _run(command, action, args))
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every command that asks incident.io."""
    told = f"the connection, of type incident_io; default: {DEFAULT_CONN_ID}"
    parser.add_argument("--conn-id", metavar="CONN_ID", default=DEFAULT_CONN_ID, help=told)
    add_json(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let a command answer to a script."""
    parser.add_argument("--json", action="store_true", help="print JSON, and logs to standard error")


def _run(command: str, action: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run one action; whatever goes wrong is one line."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request, where Airflow logs to the terminal
    try:
        with _beside_the_database():
            with contextlib.redirect_stdout(sys.stderr):
                import airflow  # noqa: F401 -- whatever it says of itself is no answer to a command
            return action(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except CommandError as error:
        remark(command, str(error))
        return error.status
    except ModuleNotFoundError as error:
        why = f"there is no module {error.name} here; run it with the Python that runs Airflow"
    except Exception as error:  # noqa: BLE001 -- a broken airflow.cfg or database may raise anything
        from airflow_incident.delivery.outcome import clean

        why = clean(f"{type(error).__name__}: {error}")
    remark(command, why)
    return 1


@contextlib.contextmanager
def _beside_the_database() -> Iterator[None]:
    """Let Airflow 3 look for connections in its database, too, as its own commands do; tasks may not.

    See `ensure_secrets_backend_loaded` of its supervisor.
    """
    from airflow_incident.airflow_bridge.compat import PROCESS_CONTEXT

    before = os.environ.get(PROCESS_CONTEXT)
    os.environ[PROCESS_CONTEXT] = "server"
    try:
        yield
    finally:
        os.environ.pop(PROCESS_CONTEXT) if before is None else os.environ.update({PROCESS_CONTEXT: before})


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send what Airflow says while it works to standard error; trouble that has an advice becomes one line."""
    from airflow_incident.delivery.outcome import clean
    from airflow_incident.errors import IncidentIoError, JournalError  # only commands talk

    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except JournalError as error:
        hint = "It needs Airflow's own database, migrated: see 'airflow db check' and 'airflow db check-migrations'"
        raise CommandError(f"{clean(str(error).partition(chr(10))[0])}. {hint}") from None
    except IncidentIoError as error:
        raise CommandError(clean(f"{str(error).rstrip('.')}. {error.advice}")) from None


def asks(question: str, *, default: bool) -> bool:
    """Ask whoever sits at the terminal; an empty answer is the default."""
    print(f"{question} [{'Y/n' if default else 'y/N'}] ", end="", flush=True)  # noqa: T201 -- a command talks
    answer = sys.stdin.readline().strip().lower()
    return answer in {"y", "yes"} if answer else default


def indented(head: str, text: str) -> list[str]:
    """Break a text into lines that begin where its head ends."""
    spaces = " " * len(head)
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=spaces, break_long_words=False, break_on_hyphens=False
    )


def record_json(record: Record) -> dict[str, Any]:
    """Say a record of the journal to a script."""
    from airflow_incident.delivery.record import encode

    nested = {"incident": record.incident, "closing": record.closing}
    known = record._asdict() | {name: value and value._asdict() for name, value in nested.items()}
    fields: dict[str, Any] = json.loads(encode(known))
    del fields["body"]
    return {"name": record.name, **fields}


def say(text: str) -> None:
    """Print, also where the terminal knows no Unicode."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)  # noqa: T201 -- a command talks


def remark(command: str, text: str) -> None:
    """Say on standard error what is no part of the answer, or why there is none."""
    print(f"airflow-incident {command}: {text}", file=sys.stderr)  # noqa: T201 -- a command talks
