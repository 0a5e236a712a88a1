"""`airflow-incident completion`: what a shell runs so that Tab completes commands and options."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from airflow_incident.cli.terminal import remark, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

ASKED = "_ARGCOMPLETE"
"""What a shell sets when somebody presses Tab. https://kislyuk.github.io/argcomplete/"""
SHELLS = ("bash", "zsh", "fish")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a command line."""
    told = "Print what a shell runs so that Tab completes commands and options."
    parser = commands.add_parser("completion", help="let a shell complete commands", description=told)
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of: {', '.join(SHELLS)}")
    parser.set_defaults(run=_completion)


def _completion(args: argparse.Namespace) -> int:
    try:
        from argcomplete.shell_integration import shellcode  # Airflow brings it
    except ModuleNotFoundError:
        remark("completion", "there is no module argcomplete here; run it with the Python that runs Airflow")
        return 1
    say(shellcode(["airflow-incident"], shell=args.shell).strip())
    return 0


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell, and end; only the names of files are looked up, where a file is asked for."""
    try:
        from argcomplete import autocomplete  # Airflow brings it
        from argcomplete.completers import FilesCompleter  # Airflow brings it
    except ModuleNotFoundError:
        sys.exit(1)
    files = FilesCompleter()

    def values(action: argparse.Action, **asked: Any) -> Sequence[str]:
        return files(**asked) if action.metavar == "FILE" else ()

    autocomplete(parser, default_completer=values)  # type: ignore[arg-type]  # it takes any function
