"""How a command behaves on a terminal: its answer, one line for what goes wrong, and silence of everybody else.

Airflow is imported only by what runs here.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import logging
import os
import sys
import textwrap
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

from airflow_incident.constants import DEFAULT_CONN_ID

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence


WIDTH = 100
"""Columns of what is printed; an address that is longer stays whole, or nobody could click on it."""
ANSWER_VERSION = 1
"""Version of what `--json` prints, as docs/reference/json.md describes it."""

_VERBOSE: ContextVar[bool] = ContextVar("verbose", default=False)
"""Whether what others say is shown."""
_SCREEN: ContextVar[tuple[TextIO, TextIO] | None] = ContextVar("screen", default=None)
"""Standard output and error of a command that runs; whoever else writes to these names is kept aside."""
_ASIDE = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace", write_through=True)
"""Where it goes otherwise: Airflow's log handlers keep the stream that they find when Airflow is imported."""


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
    """Add a command, or an action of one, to a command line; whatever goes wrong when it runs is one line.

    What others say meanwhile is shown only with `--verbose`, which a command that logs makes its default.
    """
    parser = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
    parser.add_argument("--verbose", action="store_true", help="show warnings and logs of Airflow and others, too")
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
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def _run(command: str, action: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run one action; whatever goes wrong is one line."""
    _VERBOSE.set(args.verbose)
    for talkative in ("httpx", "alembic"):  # a line for each request, or plugin, where Airflow logs to the terminal
        logging.getLogger(talkative).setLevel(logging.WARNING)
    try:
        with _beside_the_database(), _others_aside():
            with quiet("Loading Airflow"):
                import airflow  # noqa: F401 -- whatever it says of itself is no answer to a command
            if not args.verbose:
                _hush_at_exit()
            with _errors_shown(command):
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
    except SystemExit:
        sys.stderr.write(_held())  # Airflow ends the process, and has said why
        raise
    except ModuleNotFoundError as error:
        why = f"there is no module {error.name} here; run it with the Python that runs Airflow"
    except Exception as error:  # noqa: BLE001 -- a broken airflow.cfg or database may raise anything
        from airflow_incident.delivery.outcome import clean

        if args.verbose:
            traceback.print_exc()
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
def quiet(doing: str = "Looking") -> Iterator[None]:
    """Show on a terminal that something goes on; trouble that has an advice becomes one line.

    :param doing: What a terminal shows meanwhile.
    """
    from airflow_incident.errors import IncidentIoError, JournalError  # only commands talk

    try:
        with _sign_of_life(doing):
            yield
    except (IncidentIoError, JournalError) as error:
        from airflow_incident.delivery.outcome import clean

        if isinstance(error, JournalError):
            hint = "It needs Airflow's own database, migrated: see 'airflow db check' and 'airflow db check-migrations'"
            raise CommandError(f"{clean(str(error).partition(chr(10))[0])}. {hint}") from None
        raise CommandError(clean(f"{str(error).rstrip('.')}. {error.advice}")) from None


def screens() -> tuple[TextIO, TextIO]:
    """Return standard output and standard error, which are others' to write to as little as possible."""
    return _SCREEN.get() or (sys.stdout, sys.stderr)


@contextlib.contextmanager
def _sign_of_life(doing: str) -> Iterator[None]:
    """Show on a terminal that something goes on, until it is over."""
    _, screen = screens()
    if _VERBOSE.get() or not screen.isatty():
        yield
        return
    from rich.console import Console  # Airflow brings it
    from rich.live import Live  # Airflow brings it
    from rich.spinner import Spinner  # Airflow brings it

    spinner, console = Spinner("dots", f"{doing} …"), Console(file=screen)
    with Live(spinner, console=console, transient=True, redirect_stdout=False, redirect_stderr=False):
        yield


@contextlib.contextmanager
def _others_aside() -> Iterator[None]:
    """Keep what others say while a command runs off the terminal; what it says itself goes to the screen."""
    aside = sys.stderr if _VERBOSE.get() else _ASIDE
    token = _SCREEN.set((sys.stdout, sys.stderr))
    try:
        with contextlib.redirect_stdout(aside), contextlib.redirect_stderr(aside):
            yield
    finally:
        _SCREEN.reset(token)


@functools.cache
def _hush_at_exit() -> None:
    """Keep aside what others say at exit, too: Airflow 2.11 imports Flask then. What is registered last runs first."""

    def hush() -> None:
        sys.stdout = sys.stderr = _ASIDE

    atexit.register(hush)


def _held() -> str:
    return _ASIDE.buffer.getvalue().decode(errors="replace")


class _ErrorLines(logging.Handler):
    """Show what anybody logs as an error, each once, in one line."""

    def __init__(self, command: str) -> None:
        super().__init__(logging.ERROR)
        self._command, self._said = command, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line."""
        from airflow_incident.delivery.outcome import clean

        line = clean(f"{record.name}: {record.getMessage().partition(chr(10))[0]}")
        if line not in self._said:
            self._said.add(line)
            remark(self._command, line)


@contextlib.contextmanager
def _errors_shown(command: str) -> Iterator[None]:
    """Let errors of others be seen; with `--verbose` they are anyway."""
    if _VERBOSE.get():
        yield
        return
    root, handler = logging.getLogger(), _ErrorLines(command)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def asks(question: str, *, default: bool) -> bool:
    """Ask whoever sits at the terminal; an empty answer is the default."""
    screen, _ = screens()
    print(f"{question} [{'Y/n' if default else 'y/N'}] ", end="", flush=True, file=screen)
    answer = sys.stdin.readline().strip().lower()
    return answer in {"y", "yes"} if answer else default


def indented(head: str, text: str) -> list[str]:
    """Break a text into lines that begin where its head ends."""
    spaces = " " * len(head)
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=spaces, break_long_words=False, break_on_hyphens=False
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align rows in columns, each on one line: a link that is cut in pieces cannot be clicked."""
    from tabulate import tabulate  # type: ignore[import-untyped]  # Airflow brings it, without stubs

    return str(tabulate(rows, titles, tablefmt="plain", disable_numparse=True, preserve_whitespace=True))


def answer(told: Mapping[str, Any]) -> None:
    """Print an answer for a script."""
    say(json.dumps({"version": ANSWER_VERSION, **told}, indent=2))


def say(text: str) -> None:
    """Print, also where the terminal knows no Unicode."""
    screen, _ = screens()
    encoding = screen.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True, file=screen)


def remark(command: str, text: str) -> None:
    """Say on standard error what is no part of the answer, or why there is none."""
    _, screen = screens()
    print(f"airflow-incident {command}: {text}", file=screen)
