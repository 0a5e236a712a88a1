"""`airflow-incident sandbox`: its options, and what it prints. FastAPI is imported only when it runs."""

import argparse
import dataclasses
import errno
import functools
import os
import queue
import shlex
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from . import fault, options
from .store import Change

if TYPE_CHECKING:
    from .server import Sandbox

EXTRA = {"fastapi", "markdown_it", "starlette", "uvicorn"}
SWITCHES = {
    "remove-v1": "answer 404 at /v1/incidents, as once v1 is gone",
    "demand-severity": "refuse to open an incident without a severity",
    "post-incident-flow": "demand the role post_incident_flow_opt_out of a key that closes an accepted incident",
    "shared-keys": "let v1 and v2 know one another's idempotency keys",
}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    message = "Run a local incident.io for this machine, with a page that shows incidents as they come in."
    parser = commands.add_parser("sandbox", help="run a local incident.io to try things out", description=message)
    add_argument = parser.add_argument
    add_argument("--port", type=_number(int, 0, 65535), help=f"0 takes any free port (default: {options.DEFAULT_PORT})")
    add_argument("--api-key", type=_key, default=options.DEFAULT_KEY, help="the key it accepts (default: %(default)s)")
    add_argument(
        "--roles",
        type=_checked(lambda text: options.Options(roles=tuple(filter(None, text.split(",")))).roles),
        default=options.DEFAULT_ROLES,
        metavar="ROLE,…",
        help=f"the key's roles, of: {', '.join(options.ROLES)} (default: {','.join(options.DEFAULT_ROLES)})",
    )
    add_argument(
        "--repeat",
        choices=options.REPEATS,
        default=options.REPEATS[0],
        help="what a create with a used idempotency key answers: the existing incident, 409, 422, or the "
        "existing one until the key expires (default: %(default)s)",
    )
    add_argument(
        "--expires-after",
        type=_number(float, 0, sys.maxsize),
        default=60.0,
        metavar="SECONDS",
        help="how long a key is remembered with --repeat expires (default: 60)",
    )
    add_argument(
        "--rate-limit",
        type=_number(int, 1, sys.maxsize),
        default=1200,
        metavar="N",
        help="requests a minute before 429 (default: %(default)s)",
    )
    for name, help_text in SWITCHES.items():
        add_argument(f"--{name}", action="store_true", help=help_text)
    add_argument(
        "--fault",
        type=_checked(lambda text: fault.parse(text) and text),
        default="none",
        metavar="NAME[:N]",
        help=f"break the first N API requests, or all of them: {', '.join(fault.FAULTS)}",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM, and return the exit code."""
    try:
        from .server import Sandbox
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        return _fail(f"the sandbox needs {error.name}: pip install 'airflow-incident[sandbox]'")
    names = {"fault", *(field.name for field in dataclasses.fields(options.Options))}
    given = {name: value for name, value in vars(args).items() if name in names}
    build = functools.partial(Sandbox, v1_removed=args.remove_v1, **given)
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            box = _start(build, args.port)
        except OSError as error:
            return _fail(f"cannot listen on port {args.port} ({error.strerror}); --port 0 takes any that is free")
        try:
            _follow(box)
        finally:
            box.stop()
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _start(build: "functools.partial[Sandbox]", port: int | None) -> "Sandbox":
    """Take the port that was asked for; where none was, rather a free one than none."""
    try:
        return build(port=options.DEFAULT_PORT if port is None else port).start()
    except OSError as error:
        if port is not None or error.errno != errno.EADDRINUSE:
            raise
        _say(f"Port {options.DEFAULT_PORT} is taken, so it is another one this time.")
        return build(port=0).start()


def _follow(box: "Sandbox") -> NoReturn:
    """Print where it is, then a line for everything that happens to an incident; never returns."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def print_later(change: Change) -> None:
        if not isinstance(change, str):
            incident = change.incident
            name = _printable(incident["name"])
            now = time.strftime("%H:%M:%S")
            lines.put(f"{now}  {incident['reference']:<8} {change.last_event:<13} {name}  {incident['permalink']}")

    box.store.listen(print_later)
    _say(f"The incident.io sandbox is at {box.url} (Ctrl-C ends it). Point Airflow at it:\n")
    _say(f"  export {box.connection_line()}\n")
    host, key = shlex.quote(box.url), shlex.quote(box.api_key)
    _say("Or, for an Airflow that runs already:\n")
    _say("  airflow connections add incident_io_default --conn-type incident_io \\")
    _say(f"    --conn-host {host} --conn-password {key}\n")
    _say(f"Alerts go to the source {box.options.alert_source_id}, token {box.options.alert_source_token}\n")
    if box.proxy is not None:
        _say(f"API requests fail as --fault says; without the fault it is at {box.direct_url}\n")
    while True:
        _say(lines.get())


def _printable(text: str) -> str:
    """Keep names from talking to the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _say(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)  # noqa: T201 - a command talks


def _fail(text: str) -> int:
    print(f"airflow-incident sandbox: {text}", file=sys.stderr)  # noqa: T201 - a command talks
    return 1


def _number(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    """Return what reads a number within limits."""

    def read(text: str) -> float:
        number = kind(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
        return number

    return read


def _key(text: str) -> str:
    # A header carries the key: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError("a key has at least one character, and only visible ASCII")
    return text


def _checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the same reader, whose complaint argparse shows in full."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked
